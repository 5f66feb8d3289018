"""What a notifier knows after a restart: the records up to the committed offset, taken in their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from pipelines.notify import run
from pipelines.notify.run import Notifier
from pipelines.observe.metrics import NotifyMetrics
from pipelines.observe.progress import Positions
from pipelines.settings import Settings
from tests.http_sink import HttpSink
from tests.unit.notify.test_ledger import incident


class Log:
    """The topic incidents as a consumer of one partition sees it, two records a poll."""

    def __init__(self, *documents: dict[str, Any], committed: int | None) -> None:
        self._records = [
            SimpleNamespace(
                offset=number,
                key=document["incidentId"].encode(),
                value=None if document.get("gone") else json.dumps(document).encode(),
            )
            for number, document in enumerate(documents)
        ]
        self._committed, self._at = committed, 0
        self.commits: list[int] = []

    def assign(self, _: list[TopicPartition]) -> None: ...

    def seek_to_beginning(self, _: TopicPartition) -> None:
        self._at = 0

    def seek(self, _: TopicPartition, offset: int) -> None:
        self._at = offset

    def position(self, _: TopicPartition) -> int:
        return self._at

    def committed(self, _: TopicPartition) -> int | None:
        return self._committed

    def end_offsets(self, parts: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {parts[0]: len(self._records)}

    def poll(self, timeout_ms: int) -> dict[str, list[Any]]:
        found = self._records[self._at : self._at + 2]
        self._at += len(found)
        return {"": found} if found else {}

    def commit(self, offsets: dict[TopicPartition, Any]) -> None:
        self.commits += [found.offset for found in offsets.values()]


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as running:
        yield running


def notifier(log: Log, sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> Notifier:
    """A notifier that tells webhooks named as the severities."""
    monkeypatch.setattr(run, "KafkaConsumer", lambda **_: log)
    hooks = {f"webhook_{name}": sink.url(f"/{name}") for name in ("warning", "error", "critical")}
    settings = Settings.model_validate({"notify": hooks})
    return Notifier(settings, NotifyMetrics(), Positions(), lambda _: None)


def told(sink: HttpSink) -> list[tuple[str, str, str]]:
    return [(path, body["kind"], body["incident"]["incidentId"]) for path, body in sink.taken]


def test_the_end_of_what_was_told_and_then_explained_is_told_after_a_restart_too(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = incident(0, name="quiet")
    log = Log(
        incident(), quiet, incident(0), incident(name="gone"), {"incidentId": "gone", "gone": True},
        quiet | {"status": "closed"}, incident(0, status="closed"), committed=5,
    )  # fmt: skip
    life = notifier(log, sink, monkeypatch)
    life.recall()
    life.step()
    assert told(sink) == [("/warning", "closed", "i1")]


@pytest.mark.parametrize("committed", [0, 1, 2, 3])
def test_the_webhook_that_heard_of_the_opening_hears_of_the_end_too_whenever_the_notifier_was_restarted(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch, committed: int
) -> None:
    rise = incident(2, severity="CRITICAL")
    log = Log(incident(), incident(), rise, rise | {"status": "closed"}, committed=committed)
    life = notifier(log, sink, monkeypatch)
    life.recall()
    for _ in range(2):
        life.step()
    assert sorted(told(sink)[-2:]) == [("/critical", "closed", "i1"), ("/warning", "closed", "i1")]
    assert not [one for one in told(sink) if one[0] == "/error"]


def test_who_heard_of_an_incident_before_its_severity_rose_hears_that_it_was_withdrawn(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(
        incident(), incident(2, severity="ERROR"), incident(name="other"), {"incidentId": "i1", "gone": True},
        committed=3,
    )  # fmt: skip
    life = notifier(log, sink, monkeypatch)
    life.recall()
    life.step()
    assert told(sink) == [("/warning", "closed", "i1"), ("/error", "closed", "i1")]


def test_a_quiet_grid_does_not_let_the_committed_offset_expire(sink: HttpSink, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(incident(0), committed=1)
    life = notifier(log, sink, monkeypatch)
    life.recall()
    for second in (0, 1, 3599, 3600, 3601, 7200):
        monkeypatch.setattr(run.time, "monotonic", lambda at=float(second): at)
        life.step()
    assert log.commits == [1, 1, 1]


def test_on_the_first_start_only_the_newest_state_of_what_is_open_is_told(
    sink: HttpSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(
        incident(name="over"), incident(), incident(name="gone"), incident(2), {"incidentId": "gone", "gone": True},
        incident(name="over", status="closed"), incident(0, name="quiet"), committed=None,
    )  # fmt: skip
    life = notifier(log, sink, monkeypatch)
    life.recall()
    life.step()
    assert told(sink) == [("/warning", "opened", "i1")]
    assert sink.taken[0][1]["incident"]["alerts"] == 2
