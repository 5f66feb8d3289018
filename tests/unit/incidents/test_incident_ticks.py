"""The clock moves when what precedes a tick has been read and judged, and not for ever waiting."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from pipelines.errors import InfrastructureUnavailable
from pipelines.incidents.ticks import PATIENCE_S, Offsets, Tick, WaitingTicks
from tests.factories import utc


@dataclass
class Alerts:
    """How far the group has judged; None: no answer."""

    judged: dict[int, int] | None = field(default_factory=dict)
    asked: int = 0

    def __call__(self) -> Offsets:
        self.asked += 1
        if self.judged is None:
            raise InfrastructureUnavailable("no broker")
        return self.judged


def tick(t: float, offset: int, archived: Offsets | None = None) -> Tick:
    return Tick(utc(t), 0, offset, archived)


@pytest.fixture
def said() -> list[str]:
    return []


def test_a_tick_waits_until_anomalies_are_read_to_the_ends_of_that_moment(said: list[str]) -> None:
    """
    ends of anomalies when the tick came   0: 5   1: 2
    read                                   5, 1 -> waits    5, 2 -> goes, whatever came since
    """
    ticks = WaitingTicks(Alerts(), said.append)
    ticks.add([tick(60, 7)], now=0, anomalies_end={0: 5, 1: 2})
    assert ticks.take({0: 5, 1: 1}, now=1) is None
    assert ticks.first_offsets() == {0: 7}
    assert ticks.take({0: 5, 1: 2}, now=2) == utc(60)
    assert ticks.first_offsets() == {}


def test_a_partition_that_nothing_was_read_of_holds_the_clock_only_when_it_has_records(said: list[str]) -> None:
    ticks = WaitingTicks(Alerts(), said.append)
    ticks.add([tick(60, 0)], now=0, anomalies_end={0: 0, 1: 1})
    assert ticks.take({}, now=1) is None
    assert ticks.take({1: 1}, now=1) == utc(60)


def test_ticks_go_in_order_and_the_latest_end_counts(said: list[str]) -> None:
    ticks = WaitingTicks(Alerts(), said.append)
    ticks.add([tick(60, 0), tick(120, 1)], now=0, anomalies_end={0: 1})
    ticks.add([tick(180, 2)], now=0, anomalies_end={0: 9})
    assert ticks.take({0: 8}, now=1) == utc(120)
    assert ticks.first_offsets() == {0: 2}
    assert ticks.take({0: 9}, now=1) == utc(180)


def test_a_tick_waits_for_the_alerts_to_have_judged_what_was_archived(said: list[str]) -> None:
    alerts = Alerts({0: 9})
    ticks = WaitingTicks(alerts, said.append)
    ticks.add([tick(60, 0, {0: 10, 1: 3})], now=0, anomalies_end={})
    assert ticks.take({}, now=1) is None
    alerts.judged = {0: 10}
    assert ticks.take({}, now=2) is None
    alerts.judged = {0: 11, 1: 3}
    assert ticks.take({}, now=3) == utc(60)
    assert said == []


def test_the_alerts_are_not_asked_for_ticks_of_earlier_versions_nor_more_than_twice_a_second(said: list[str]) -> None:
    alerts = Alerts()
    ticks = WaitingTicks(alerts, said.append)
    ticks.add([tick(60, 0)], now=0, anomalies_end={})
    assert ticks.take({}, now=0) == utc(60)
    assert alerts.asked == 0
    ticks.add([tick(120, 1, {0: 1})], now=0, anomalies_end={})
    for step in range(11):
        ticks.take({}, now=step / 10)
    assert alerts.asked == 3


@pytest.mark.parametrize("judged", [{}, None], ids=["alerts that lag", "no answer"])
def test_no_tick_waits_longer_than_its_time_and_that_is_said_once(
    said: list[str], judged: dict[int, int] | None
) -> None:
    ticks = WaitingTicks(Alerts(judged), said.append)
    for number in range(3):
        ticks.add([tick(60 * number, number, {0: 5})], now=60.0 * number, anomalies_end={})
    assert ticks.take({}, now=PATIENCE_S - 1) is None
    assert ticks.take({}, now=PATIENCE_S) == utc(0)
    assert ticks.take({}, now=PATIENCE_S + 120) == utc(120)
    assert len(said) == 1
    assert "doctor" in said[0]
