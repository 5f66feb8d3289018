"""Where the alerts job stands: its batches last minutes, so heartbeats speak in between."""

from __future__ import annotations

from typing import cast

from pipelines.jobs.alerts_watch import Watch
from pipelines.jobs.metering import AlertsMetering


class Beating:
    """A watch that has seen heartbeats up to here; the real one needs a broker."""

    heartbeat_age_s = 3.0

    def __init__(self, reached: dict[int, int]) -> None:
        self._reached = reached

    def reached(self) -> dict[int, int]:
        return self._reached


def followed(metering: AlertsMetering, reached: dict[int, int]) -> AlertsMetering:
    metering.follow(cast(Watch, Beating(reached)))
    return metering


def test_it_stands_where_the_newest_heartbeat_or_the_end_of_a_batch_says_whichever_is_further() -> None:
    metering = followed(AlertsMetering(topic="t"), {0: 301, 1: 7})
    assert metering.read() == {"alerts": {"t": {0: 301, 1: 7}}}
    metering.committed.put("alerts", {"t": {0: 290, 1: 12}})
    assert metering.read() == {"alerts": {"t": {0: 301, 1: 12}}}


def test_every_life_of_the_query_after_the_first_is_a_restart() -> None:
    metering = followed(AlertsMetering(topic="t"), {})
    metering.metrics.prepare({"alerts": 300.0})
    value = metering.metrics.registry.get_sample_value
    assert value("gridwatch_restarts_total", {"query": "alerts"}) == 0
    followed(metering, {})
    assert value("gridwatch_restarts_total", {"query": "alerts"}) == 1
    assert value("gridwatch_heartbeat_age_seconds") == 3.0
