"""Feeder incidents and their children, mute windows, the re-notification limit, hysteresis and k of n."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.incidents.relations import relate
from pipelines.incidents.sessions import sessionise, sessions
from pipelines.settings import Incidents, Settings
from tests.factories import anomaly_row, settings, utc

Rows = list[dict[str, Any]]
STEPS = (10.0, 60.0)


def a(t: float, kind: str = "undervoltage", severity: str = "WARNING", **more: Any) -> dict[str, Any]:
    """An anomaly at second t."""
    return {"t": t, "anomaly_type": kind, "severity": severity, **more}


def feeder(t: float, kind: str = "feeder_undervoltage", name: str = "f1") -> dict[str, Any]:
    """A feeder's anomaly."""
    return a(t, kind, "CRITICAL", meter_id=None, feeder_id=name, stage="feeder")


def hold(t: float, kind: str = "undervoltage") -> dict[str, Any]:
    """Back in the band, but within the hysteresis."""
    return a(t, kind, "INFO", stage="window")


def run(anomalies: Rows, clock: float = 100_000, **changes: Any) -> Rows:
    """Incidents in order of scope, meter, family and opening."""
    rules = settings(incidents=changes).incidents
    return sessionise(map(anomaly_row, anomalies), clock=utc(clock), settings=rules, step_s=STEPS)


def brief(rows: Rows) -> list[tuple[Any, ...]]:
    """(scope id, family, alerts, whether it has a parent)."""
    return [(r["meter_id"] or r["feeder_id"], r["family"], r["alerts"], r["parent_id"] is not None) for r in rows]


def test_meters_of_a_feeder_incident_become_children_and_notify_nobody() -> None:
    found = run([feeder(0), a(5), a(2, meter_id="m2"), a(400, "interruption", "CRITICAL", meter_id="m3")])
    assert brief(found) == [
        ("f1", "feeder-supply", 1, False),
        ("m1", "voltage-low", 0, True),
        ("m2", "voltage-low", 0, True),
        ("m3", "voltage-low", 1, False),
    ]
    parents = {row["parent_id"] for row in found} - {None}
    assert parents == {row["incident_id"] for row in found if row["scope"] == "feeder"}


@pytest.mark.parametrize(
    ("opened", "is_child"),
    [(-60.001, False), (-60, True), (0, True), (600, True), (600.001, False)],
    ids=["more than a slide before", "a slide before", "together", "the off delay after", "later"],
)
def test_a_child_opens_from_a_slide_before_until_the_off_delay_after(opened: float, is_child: bool) -> None:
    rows = [row for row in run([feeder(0), feeder(300), a(opened)]) if row["scope"] == "meter"]
    assert [row["parent_id"] is not None for row in rows] == [is_child]


@pytest.mark.parametrize("more", [{"feeder_id": "f2"}, {"feeder_id": None}], ids=["another feeder", "no feeder"])
def test_only_meters_of_the_feeder_are_children(more: dict[str, Any]) -> None:
    assert [row["parent_id"] for row in run([feeder(0), a(5, **more)])] == [None, None]


def test_a_feeder_event_does_not_explain_a_hot_meter() -> None:
    found = run([feeder(0), a(5, "over_temperature"), a(5, "stuck_sensor"), a(5, "voltage_deviation")])
    assert {row["family"]: row["parent_id"] is not None for row in found if row["scope"] == "meter"} == {
        "thermal": False,
        "health": False,
        "deviation": True,
    }


def test_one_event_of_a_feeder_is_one_incident_whatever_the_rules_say_of_it() -> None:
    found = run([feeder(0), feeder(60, "feeder_outage"), feeder(120, "feeder_overvoltage")])
    assert brief(found) == [("f1", "feeder-supply", 1, False)]


def test_the_second_opening_within_the_limit_is_recorded_and_says_why_it_is_silent() -> None:
    first, second, third = run([a(0), a(1000), a(2800)])
    assert (first["alerts"], second["alerts"], third["alerts"]) == (1, 0, 1)
    assert second["muted"] == "notified at 12:00:00Z, again after 1800 s or when it gets worse"
    assert first["muted"] is None
    assert third["muted"] is None


def test_a_worse_one_notifies_within_the_limit() -> None:
    first, second = run([a(0), a(1000, severity="ERROR")])
    assert (first["alerts"], second["alerts"]) == (1, 1)


def test_the_limit_can_be_switched_off() -> None:
    assert [row["alerts"] for row in run([a(0), a(1000)], renotify=0)] == [1, 1]


MUTE = "2026-03-01T12:00/2026-03-01T13:00 planned work"


@pytest.mark.parametrize(
    ("who", "alerts"), [("m1", 0), ("f1", 0), ("*", 0), ("m2", 1)], ids=["meter", "feeder", "all", "another meter"]
)
def test_a_mute_window_mutes_the_notification_and_not_the_record(who: str, alerts: int) -> None:
    (row,) = run([a(0), a(10, severity="ERROR")], mute=[f"{who} {MUTE}"])
    assert (row["severity"], row["anomalies"]) == ("ERROR", 2)
    assert row["alerts"] == 2 * alerts
    assert (row["muted"] == "muted until 2026-03-01 13:00Z: planned work") is (alerts == 0)


def test_a_mute_window_ends() -> None:
    assert [row["alerts"] for row in run([a(3599), a(7200)], mute=[f"* {MUTE}"])] == [0, 1]


@pytest.mark.parametrize("text", ["m1", "m1 now/then x", "m1 2026-03-02T00:00/2026-03-01T00:00 x"])
def test_a_mute_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match=r"incidents\.mute"):
        Incidents(mute=(text,))


def test_hysteresis_keeps_an_incident_open_and_opens_none() -> None:
    """
    t       0       240   480   720      1000      1400
    says    WARN    hold  hold  WARN               hold
    """
    (row,) = run([a(0), hold(240), hold(480), a(720), hold(1400)])
    assert (row["opened_at"], row["last_anomaly_at"], row["closed_at"]) == (utc(0), utc(720), utc(1020))
    assert row["anomalies"] == 2
    (held,) = run([a(0), hold(240)])
    assert (held["last_anomaly_at"], held["duration_s"], held["anomalies"]) == (utc(240), 240.0, 1)


K_OF_N: dict[str, tuple[Rows, list[float]]] = {
    # k = 2 of n = 3 readings of 10 s, slides of 60 s -> openings
    "one warning opens none": ([a(0)], []),
    "the second within three opens": ([a(0), a(20)], [20]),
    "the second after more does not": ([a(0), a(30)], []),
    "worse than a warning opens at once": ([a(0, severity="ERROR")], [0]),
    "two rules do not add up": ([a(0), a(10, "voltage_spike"), a(10, "sustained_undervoltage")], []),
    "window rules count in slides": (
        [a(0, "voltage_deviation", stage="window"), a(120, "voltage_deviation", stage="window")],
        [120],
    ),
}


@pytest.mark.parametrize("name", list(K_OF_N))
def test_k_of_n(name: str) -> None:
    anomalies, openings = K_OF_N[name]
    assert [row["opened_at"] for row in run(anomalies, warning_k=2, warning_n=3)] == [utc(t) for t in openings]


def test_incidents_decided_in_two_steps_are_those_decided_at_once() -> None:
    """The stream knows the meters' incidents first, and the feeder's a batch later."""
    meters, later = [a(5), a(2, meter_id="m2"), a(5, "over_temperature")], [feeder(0)]
    rules = Settings().incidents
    once = run([*meters, *later])
    first = run(meters)
    assert {row["alerts"] for row in first} == {1}
    fresh = sessions(map(anomaly_row, later), clock=utc(100_000), settings=rules, step_s=STEPS)
    changed = {row["incident_id"]: row for row in relate(fresh, first, settings=rules, lead_s=60.0)}
    known = {row["incident_id"]: row for row in first} | changed
    assert sorted(known.values(), key=lambda r: r["incident_id"]) == sorted(once, key=lambda r: r["incident_id"])


def test_a_feeder_incident_that_is_gone_gives_its_children_back() -> None:
    rows = run([feeder(0), a(5)])
    child = next(row for row in rows if row["scope"] == "meter")
    (again,) = relate([], [child], settings=Settings().incidents, lead_s=60.0)
    assert (again["parent_id"], again["alerts"]) == (None, 1)
