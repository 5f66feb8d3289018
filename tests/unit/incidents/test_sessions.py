"""Incidents as a pure function of anomalies and the clock: any order, any repetition, the same rows."""

from __future__ import annotations

import random
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.incidents.sessions import sessionise
from pipelines.settings import Settings
from pipelines.tables import INCIDENTS
from tests.factories import anomaly_row, ms, utc

Anomalies = list[dict[str, Any]]
Incidents = list[dict[str, Any]]
CLOCK = 10_000
"""Far enough that everything is over; the cases give their own where it matters."""


def a(t: float, kind: str = "undervoltage", severity: str = "WARNING", **more: Any) -> dict[str, Any]:
    """An anomaly at second t."""
    return {"t": t, "anomaly_type": kind, "severity": severity, **more}


def run(anomalies: Anomalies, clock: float | None = CLOCK) -> Incidents:
    """Incidents in order of meter, family and opening."""
    moment = None if clock is None else utc(clock)
    found = sessionise(map(anomaly_row, anomalies), clock=moment, settings=Settings().incidents)
    assert all(sorted(row) == sorted(INCIDENTS.column_names) for row in found)
    return sorted(found, key=lambda row: (row["meter_id"] or "", row["family"], row["opened_at"]))


SILENT, OUTAGE = "meter_silent", "feeder_outage"
CASES: dict[str, tuple[Anomalies, list[tuple[Any, ...]]]] = {
    # anomalies of a meter -> (family, severity, opened, last, closed, anomalies, alerts) of its incidents
    "one anomaly closes after the off delay": ([a(0)], [("voltage-low", "WARNING", 0, 0, 300, 1, 1)]),
    "the next one extends it": ([a(0), a(200)], [("voltage-low", "WARNING", 0, 200, 500, 2, 1)]),
    "300 s later is still the same": ([a(0), a(300)], [("voltage-low", "WARNING", 0, 300, 600, 2, 1)]),
    "a millisecond more is a new one": (
        [a(0), a(300.001)],
        [
            ("voltage-low", "WARNING", 0, 0, 300, 1, 1),
            ("voltage-low", "WARNING", 300.001, 300.001, 600.001, 1, 0),
        ],
    ),
    "a worse one escalates and notifies": (
        [a(0), a(10, severity="ERROR"), a(20, "interruption", "CRITICAL")],
        [("voltage-low", "CRITICAL", 0, 20, 320, 3, 3)],
    ),
    "a milder one neither lowers nor notifies": (
        [a(0, severity="ERROR"), a(10), a(20, severity="ERROR")],
        [("voltage-low", "ERROR", 0, 20, 320, 3, 1)],
    ),
    "families have incidents of their own": (
        [a(0), a(0, "over_temperature", "ERROR"), a(0, "equipment_failure", "CRITICAL")],
        [
            ("equipment", "CRITICAL", 0, 0, 300, 1, 1),
            ("thermal", "ERROR", 0, 0, 300, 1, 1),
            ("voltage-low", "WARNING", 0, 0, 300, 1, 1),
        ],
    ),
    "rules of one family share an incident": (
        [a(0), a(60, "sustained_undervoltage", "ERROR")],
        [("voltage-low", "ERROR", 0, 60, 360, 2, 2)],
    ),
    "INFO never opens one": ([a(0, "voltage_deviation", "INFO"), a(0, "voltage_spike", "INFO")], []),
    "voltage_spike never opens one": ([a(0, "voltage_spike", "WARNING")], []),
    "voltage_spike never extends one": (
        [a(0, "overvoltage"), a(200, "voltage_spike")],
        [("voltage-high", "WARNING", 0, 0, 300, 1, 1)],
    ),
    "an unknown rule opens none": ([a(0, "no_such_rule", "CRITICAL")], []),
    "two implausible values stay a warning": (
        [a(0, "implausible_value"), a(200, "implausible_value")],
        [("health", "WARNING", 0, 200, 500, 2, 1)],
    ),
    "the third in 15 min is an error": (
        [a(0, "implausible_value"), a(290, "implausible_value"), a(580, "implausible_value")],
        [("health", "ERROR", 0, 580, 880, 3, 2)],
    ),
    "a third after more than 15 min is not": (
        [
            a(0, "implausible_value"),
            a(290, "stuck_sensor"),
            a(580, "implausible_value"),
            a(870, "stuck_sensor"),
            a(901, "implausible_value"),
        ],
        [("health", "WARNING", 0, 901, 1201, 5, 1)],
    ),
    "other health anomalies do not count as implausible": (
        [a(0, "implausible_value"), a(10, "stuck_sensor"), a(20, "implausible_value")],
        [("health", "WARNING", 0, 20, 320, 3, 1)],
    ),
    "back closes a silence at once": (
        [a(0, SILENT), a(180, SILENT, "INFO")],
        [("silence", "WARNING", 0, 0, 180, 1, 1)],
    ),
    "a silence lasts from heartbeat to heartbeat": (
        [a(300, SILENT), a(1800, SILENT, "ERROR"), a(3600, SILENT, "ERROR"), a(4000, SILENT, "INFO")],
        [("silence", "ERROR", 300, 3600, 4000, 3, 2)],
    ),
    "a silence without back or heartbeat is over after both": (
        [a(0, SILENT)],
        [("silence", "WARNING", 0, 0, 2100, 1, 1)],
    ),
    "silent again after back is a new incident": (
        [a(0, SILENT), a(180, SILENT, "INFO"), a(600, SILENT)],
        [("silence", "WARNING", 0, 0, 180, 1, 1), ("silence", "WARNING", 600, 600, 2700, 1, 0)],
    ),
    "an outage that lasts stays open": (
        [a(0, OUTAGE, "CRITICAL", stage="feeder"), *(a(t, OUTAGE, "INFO", stage="feeder") for t in (250, 500))],
        [("feeder-supply", "CRITICAL", 0, 500, 800, 1, 1)],
    ),
    "an outage that lasts continues no other event": (
        [
            a(0, "feeder_undervoltage", "CRITICAL", stage="feeder"),
            *(a(t, OUTAGE, "INFO", stage="feeder") for t in (250, 500)),
        ],
        [("feeder-supply", "CRITICAL", 0, 0, 300, 1, 1)],
    ),
    "the next event while an outage lasts is an incident of its own": (
        [
            a(0, OUTAGE, "CRITICAL", stage="feeder"),
            *(a(t, OUTAGE, "INFO", stage="feeder") for t in range(250, 2300, 250)),
            a(2300, OUTAGE, "CRITICAL", stage="feeder"),
        ],
        [("feeder-supply", "CRITICAL", 0, 2250, 2550, 1, 1), ("feeder-supply", "CRITICAL", 2300, 2300, 2600, 1, 1)],
    ),
    "meters that are dark for longer open none": ([a(0, OUTAGE, "INFO", stage="feeder")], []),
    "back without a silence is nothing": ([a(0, SILENT, "INFO")], []),
    "an INFO of another rule ends nothing": (
        [a(0, "stuck_sensor"), a(100, "voltage_deviation", "INFO")],
        [("health", "WARNING", 0, 0, 300, 1, 1)],
    ),
}


@pytest.fixture(scope="module")
def incidents() -> dict[str, Incidents]:
    """Incidents of every case, each a meter of its own, in one call."""
    everything = [{**anomaly, "meter_id": name} for name, (anomalies, _) in CASES.items() for anomaly in anomalies]
    found: dict[str, Incidents] = {name: [] for name in CASES}
    for row in run(everything):
        found[row["meter_id"]].append(row)
    return found


def brief(row: dict[str, Any]) -> tuple[Any, ...]:
    """(family, severity, opened, last, closed, anomalies, alerts) with times in seconds after noon."""
    seconds = (
        None if row[n] is None else (row[n] - utc(0)).total_seconds()
        for n in ("opened_at", "last_anomaly_at", "closed_at")
    )
    return (row["family"], row["severity"], *seconds, row["anomalies"], row["alerts"])


@pytest.mark.parametrize("name", list(CASES))
def test_incidents_of_a_meter(incidents: dict[str, Incidents], name: str) -> None:
    assert [brief(row) for row in incidents[name]] == CASES[name][1]
    assert {row["status"] for row in incidents[name]} <= {"closed"}


def test_incident_tells_its_history(incidents: dict[str, Incidents]) -> None:
    (row,) = incidents["a worse one escalates and notifies"]
    assert [tuple(step.values()) for step in row["severity_history"]] == [
        (ms(0), "WARNING", "undervoltage"),
        (ms(10), "ERROR", "undervoltage"),
        (ms(20), "CRITICAL", "interruption"),
    ]
    assert (row["anomaly_type"], row["message"]) == ("interruption", "interruption CRITICAL")
    assert (row["duration_s"], row["scope"], row["feeder_id"], row["parent_id"]) == (
        20.0,
        "meter",
        "f1",
        None,
    )


def test_incident_id_depends_on_scope_family_and_opening_only(incidents: dict[str, Incidents]) -> None:
    for name in ("one anomaly closes after the off delay", "a worse one escalates and notifies"):
        expected = sha256(f"meter|{name}|voltage-low|{ms(0)}".encode()).hexdigest()
        assert incidents[name][0]["incident_id"] == expected


@pytest.mark.parametrize(
    ("clock", "status", "closed"),
    [(None, "open", None), (299.999, "open", None), (300, "closed", 300), (9000, "closed", 300)],
)
def test_the_clock_closes_an_incident_at_the_off_delay(clock: float | None, status: str, closed: float | None) -> None:
    (row,) = run([a(0)], clock)
    assert row["status"] == status
    assert row["closed_at"] == (None if closed is None else utc(closed))


def test_feeder_anomaly_has_the_feeder_as_scope() -> None:
    (row,) = run([a(0, meter_id=None, feeder_id="f7")])
    assert (row["scope"], row["meter_id"], row["feeder_id"]) == ("feeder", None, "f7")


def test_worst_value_is_the_one_with_the_highest_score() -> None:
    scored = [
        a(0, observed=200.0, score=1.1),
        a(10, observed=150.0, score=3.0),
        a(20, observed=190.0, score=1.4),
    ]
    (row,) = run(scored)
    assert row["worst_value"] == 150.0


def test_late_anomaly_between_two_sessions_merges_them() -> None:
    """
    t     0 ....... 280 ....... 560
    was   first                 second      gap 560 s: two incidents
    now   first ... late ...... second      one, and the id of the second is gone
    """
    first, second = run([a(0), a(560)])
    (merged,) = run([a(0), a(560), a(280)])
    assert merged["incident_id"] == first["incident_id"]
    assert merged["incident_id"] != second["incident_id"]
    assert brief(merged) == ("voltage-low", "WARNING", 0, 560, 860, 3, 1)


KINDS = (
    "undervoltage",
    "interruption",
    "implausible_value",
    "stuck_sensor",
    "meter_silent",
    "voltage_spike",
    "over_temperature",
)


@settings(max_examples=50, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32 - 1))
def test_order_and_repetition_change_nothing(seed: int) -> None:
    """Scores tie and values differ, so that nothing may hang on which row comes first."""
    rng = random.Random(seed)
    anomalies = [
        a(
            rng.randrange(0, 4000, 10),
            rng.choice(KINDS),
            rng.choice(("INFO", "WARNING", "ERROR", "CRITICAL")),
            meter_id=f"m{rng.randrange(8)}",
            observed=float(rng.randrange(400)),
            score=float(rng.randrange(1, 3)),
        )
        for _ in range(400)
    ]
    unique = list({(x["meter_id"], x["anomaly_type"], x["t"]): x for x in anomalies}.values())
    expected = run(unique, clock=3000)
    assert len(expected) > 50
    repeated = unique + rng.choices(unique, k=100)
    rng.shuffle(repeated)
    assert run(repeated, clock=3000) == expected
