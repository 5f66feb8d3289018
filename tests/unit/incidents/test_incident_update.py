"""What of the anomalies cannot wait, and what the clock closes."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.incidents.relations import key_of
from pipelines.incidents.sessions import sessionise
from pipelines.incidents.update import KnownIncidents, is_news, update
from pipelines.settings import Incidents
from tests.factories import anomaly_row, utc

RULES = Incidents()
STEPS = (10.0, 60.0)


def a(t: float, kind: str = "undervoltage", severity: str = "WARNING", **more: Any) -> dict[str, Any]:
    return anomaly_row({"t": t, "anomaly_type": kind, "severity": severity, **more})


def rows_of(*anomalies: dict[str, Any]) -> list[dict[str, Any]]:
    return sessionise(anomalies, clock=None, settings=RULES, step_s=STEPS)


@pytest.mark.parametrize(
    ("event", "news"),
    [
        (a(10), False),
        (a(10, severity="INFO"), False),
        (a(10, severity="ERROR"), True),
        (a(-10), True),
        (a(10, meter_id="m2"), True),
        (a(10, "over_temperature"), True),
        (a(10, "voltage_spike"), False),
        (a(10, "meter_silent", "INFO"), True),
        (a(10, "meter_silent", "INFO", meter_id="m2"), False),
        (a(10, "implausible_value"), True),
    ],
    ids=["goes on", "info", "worse", "earlier", "other meter", "other family", "never opens", "back", "back of nothing",
         "third of three"],
)  # fmt: skip
def test_what_may_open_end_or_worsen_an_incident_is_news(event: dict[str, Any], news: bool) -> None:
    known = rows_of(a(0), a(0, "meter_silent", "ERROR", stage="window"), a(0, "implausible_value"))
    assert is_news(event, {key_of(row): row for row in known}) is news


def test_the_clock_closes_what_nothing_touches_and_a_replay_of_it_changes_nothing() -> None:
    known = KnownIncidents(rows_of(a(0), a(100, meter_id="m2")), RULES)
    closed = update([], utc(300), known=known, since={}, rules=RULES, steps_s=STEPS)
    assert [(row["meter_id"], row["closed_at"]) for row in closed.rows] == [("m1", utc(300))]
    assert closed.gone == []
    after = KnownIncidents(closed.current, RULES)
    assert update([], utc(300), known=after, since={}, rules=RULES, steps_s=STEPS).rows == []


def test_without_a_clock_nothing_is_closed() -> None:
    known = KnownIncidents(rows_of(a(0)), RULES)
    assert update([], None, known=known, since={}, rules=RULES, steps_s=STEPS).rows == []
