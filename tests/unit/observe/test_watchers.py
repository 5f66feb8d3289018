"""What watches a job outlives whatever a watched part raises."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from pipelines.observe import groups
from pipelines.observe.groups import GroupCommits
from pipelines.observe.lag import BrokerEnds, LagCollector
from pipelines.observe.progress import Positions
from pipelines.observe.sampler import Sampler
from pipelines.settings import Kafka


@pytest.mark.parametrize("kind", [ValueError, RuntimeError, AssertionError, KeyError])
def test_no_error_of_a_sample_ends_the_sampling(kind: type[Exception]) -> None:
    said: list[str] = []
    tried_again = threading.Event()
    tries = []

    def broken() -> None:
        tries.append(1)
        if len(tries) > 2:
            tried_again.set()
        raise kind("unheard of")

    with Sampler([broken], 0.01, said.append):
        assert tried_again.wait(5)
    assert len(said) == 1
    assert kind.__name__ in said[0]


class Broken:
    """A client of Kafka in a state that it does not expect itself, as it is when its selector was closed under it."""

    def __init__(self, **_: Any) -> None:
        self.closed = 0

    def end_offsets(self, *_: object, **__: object) -> None:
        raise RuntimeError("NetworkSelector closed!")

    alter_group_offsets = end_offsets

    def close(self, **_: object) -> None:
        self.closed += 1
        raise RuntimeError("NetworkSelector closed!")


def test_an_unexpected_error_of_the_client_costs_the_lag_and_not_the_scrape(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Broken] = []

    def connect(_: BrokerEnds) -> Broken:
        made.append(Broken())
        return made[-1]

    monkeypatch.setattr(BrokerEnds, "_connect", connect)
    registry = CollectorRegistry()
    registry.register(LagCollector(BrokerEnds(Kafka()), lambda: {"archive": {"t": {0: 5}}}))
    for _ in range(2):
        assert registry.get_sample_value("gridwatch_kafka_reachable") == 0
    assert [client.closed for client in made] == [1, 1]


def test_offsets_are_committed_by_a_new_client_after_an_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Broken] = []

    def connect(**_: Any) -> Broken:
        made.append(Broken())
        return made[-1]

    monkeypatch.setattr(groups, "KafkaAdminClient", connect)
    positions = Positions()
    positions.put("archive", {"t": {0: 5}})
    commits = GroupCommits(Kafka(), "gridwatch", positions)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            commits()
    assert [client.closed for client in made] == [1, 1]
