"""What recompute compares: rows by key with a tolerance, spans of window ends, incidents of changed anomalies."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import DataRefused
from pipelines.incidents.sessions import sessionise
from pipelines.offline.recompute.changes import Change, as_json, changes_between, count_by
from pipelines.offline.recompute.incident_changes import incident_changes
from pipelines.offline.recompute.spans import Span, merge_spans, moment_of, neighbours
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables
from pipelines.tables import ANOMALIES, INCIDENTS, OPERATOR_ACTIONS
from tests.factories import anomaly_row, utc

MINUTE = 60_000
Rows = list[dict[str, Any]]


def row(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "score": 1.5, "baseline": {"mean": 230.0, "n": 24}, "said_at": None, **more}


def labels(before: Rows, after: Rows, **more: Any) -> dict[str, str]:
    return {change.key: change.label for change in changes_between(before, after, key="id", **more)}


def test_rows_are_new_changed_gone_or_not_mentioned() -> None:
    before = [row("same"), row("other"), row("away")]
    after = [row("fresh"), row("other", score=2.0), row("same")]
    assert labels(before, after) == {"fresh": "new", "other": "changed", "away": "gone"}


@pytest.mark.parametrize(
    "more",
    [{"score": 1.5 + 1e-9}, {"baseline": {"mean": 230.0 + 1e-8, "n": 24}}, {"said_at": 7}],
    ids=["a sum in another order", "the same in a struct", "an ignored column"],
)
def test_rows_that_say_the_same_are_no_change(more: dict[str, Any]) -> None:
    assert labels([row("a")], [row("a", **more)], ignored=("said_at",)) == {}


@pytest.mark.parametrize(
    "more",
    [{"score": 1.50001}, {"score": None}, {"baseline": {"mean": 230.0, "n": 25}}, {"baseline": None}, {"said_at": 7}],
)
def test_rows_that_say_something_else_are_a_change(more: dict[str, Any]) -> None:
    assert labels([row("a")], [row("a", **more)]) == {"a": "changed"}


def test_a_changed_row_keeps_what_it_is_told_to_keep() -> None:
    (change,) = changes_between([row("a", said_at=5)], [row("a", score=9.0)], key="id", kept=("said_at",))
    assert change.before == row("a", said_at=5)
    assert change.after == row("a", said_at=5, score=9.0)


def test_changes_are_counted_by_type_of_the_row_that_is_or_was() -> None:
    changes = [Change("a", None, {"kind": "x"}), Change("b", {"kind": "x"}, None), Change("c", {"kind": "y"}, None)]
    assert count_by(changes, "kind") == {
        "x": {"new": 1, "changed": 0, "gone": 1},
        "y": {"new": 0, "changed": 0, "gone": 1},
    }


def test_a_row_as_json_has_epoch_milliseconds_and_no_nulls() -> None:
    text = as_json(
        {"at": utc(0), "day": date(2026, 3, 1), "v": 230.123456789, "none": None, "in": {"a": None, "b": [1]}}
    )
    assert json.loads(text or "") == {"at": 1772366400000, "day": "2026-03-01", "v": 230.123457, "in": {"b": [1]}}
    assert as_json(None) is None


def test_spans_near_one_another_are_one_and_open_windows_are_left_out() -> None:
    reaches = [(300 * MINUTE, 310 * MINUTE), (10 * MINUTE, 20 * MINUTE), (70 * MINUTE, 75 * MINUTE)]
    reaches += [(390 * MINUTE, 500 * MINUTE), (420 * MINUTE, 450 * MINUTE)]
    found = merge_spans(reaches, newest=moment_of(400 * MINUTE))
    assert [(span.first, span.last) for span in found] == [
        (moment_of(10 * MINUTE), moment_of(75 * MINUTE)),
        (moment_of(300 * MINUTE), moment_of(310 * MINUTE)),
        (moment_of(390 * MINUTE), moment_of(400 * MINUTE)),
    ]


def test_the_ends_beside_a_span_are_the_nearest_stored_ones() -> None:
    ends = [moment_of(n * MINUTE) for n in (1, 2, 7, 9)]
    assert neighbours(ends, Span(moment_of(4 * MINUTE), moment_of(7 * MINUTE))) == (ends[1], ends[3])
    alone = Span(moment_of(0), moment_of(10 * MINUTE))
    assert neighbours(ends, alone) == (alone.first, alone.last)


CLOCK = utc(3600)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(found, [ANOMALIES, INCIDENTS, OPERATOR_ACTIONS])
    return found


def anomalies(*seconds: float, **more: Any) -> Rows:
    """Undervoltage of m1, ERROR: it opens at once."""
    return [anomaly_row({"t": t, "anomaly_type": "undervoltage", "severity": "ERROR", **more}) for t in seconds]


def store(settings: Settings, rows: Rows, clock: datetime = CLOCK) -> dict[str, dict[str, Any]]:
    """Anomalies with their incidents; returns these by id."""
    append_rows(pa.Table.from_pylist(rows, schema=arrow_schema(ANOMALIES)), settings, ANOMALIES)
    found = sessions_of(settings, rows, clock)
    append_rows(pa.Table.from_pylist(list(found.values()), schema=arrow_schema(INCIDENTS)), settings, INCIDENTS)
    return found


def sessions_of(settings: Settings, rows: Rows, clock: datetime = CLOCK) -> dict[str, dict[str, Any]]:
    steps = settings.detection.steps_s
    found = sessionise(rows, clock=clock, settings=settings.session_rules, step_s=steps)
    return {incident["incident_id"]: incident for incident in found}


def after(before: dict[str, dict[str, Any]], changes: list[Change]) -> dict[str, Any]:
    """The incidents with the changes."""
    gone = {change.key for change in changes if change.after is None}
    now = before | {change.key: dict(change.after) for change in changes if change.after is not None}
    return {name: incident for name, incident in now.items() if name not in gone}


@pytest.mark.parametrize(
    ("taken", "added"),
    [((0,), ()), ((100,), ()), ((), (-200,)), ((), (450,)), ((0, 100, 800, 2000), ()), ((800,), (900, 3000))],
    ids=["the opener", "one within", "an earlier one", "one that joins two", "all", "some for others"],
)
def test_incidents_are_those_of_the_anomalies_that_are_left(
    settings: Settings, taken: tuple[float, ...], added: tuple[float, ...]
) -> None:
    """
    second   0   100         800                2000
    stored   [=======]       [=]                [=]        three incidents of m1, one of m2 that nothing touches
    """
    stored = anomalies(0, 100, 800, 2000) + anomalies(0, meter_id="m2")
    before = store(settings, stored)
    assert len(before) == 4
    is_taken = {r["anomaly_id"] for r in anomalies(*taken)}
    changes = [
        Change(r["anomaly_id"], r, None) for r in stored if r["meter_id"] == "m1" and r["anomaly_id"] in is_taken
    ]
    changes += [Change(r["anomaly_id"], None, r) for r in anomalies(*added)]
    left = [r for r in stored if r["meter_id"] != "m1" or r["anomaly_id"] not in is_taken] + anomalies(*added)
    found = incident_changes(settings, changes, clock=CLOCK)
    assert after(before, found) == sessions_of(settings, left)
    assert all(change.row["meter_id"] == "m1" for change in found)


def test_an_anomaly_that_touches_no_incident_changes_none(settings: Settings) -> None:
    store(settings, anomalies(0))
    (info,) = anomalies(5, severity="INFO")
    assert incident_changes(settings, [Change(info["anomaly_id"], None, info)], clock=CLOCK) == []


def test_an_open_incident_stays_open_until_the_query_closes_it(settings: Settings) -> None:
    """The table would know of its end, and the topic never."""
    store(settings, anomalies(0), clock=utc(60))
    (further,) = anomalies(30)
    (change,) = incident_changes(settings, [Change(further["anomaly_id"], None, further)], clock=CLOCK)
    assert change.after is not None
    assert (change.after["status"], change.after["closed_at"], change.after["anomalies"]) == ("open", None, 2)


def test_an_open_silence_that_back_has_ended_is_closed(settings: Settings) -> None:
    """No later event of it comes to the query, so nobody else would."""
    silence = {"anomaly_type": "meter_silent", "stage": "window"}
    store(settings, anomalies(0, **silence), clock=utc(60))
    (back,) = anomalies(600, **silence | {"severity": "INFO"})
    (change,) = incident_changes(settings, [Change(back["anomaly_id"], None, back)], clock=CLOCK)
    assert change.before is not None
    assert (change.before["status"], change.row["status"], change.row["closed_at"]) == ("open", "closed", utc(600))


def test_an_incident_whose_first_anomalies_have_expired_is_refused(settings: Settings) -> None:
    """
    day      -1                 0
    stored   [= expired =======|=]   one undervoltage: what is left would begin at midnight, as another incident
    """
    left = anomalies(-12 * 3600 + 300, -12 * 3600 + 600)
    gone = anomalies(-12 * 3600 - 300, -12 * 3600)
    append_rows(pa.Table.from_pylist(left, schema=arrow_schema(ANOMALIES)), settings, ANOMALIES)
    before = sessions_of(settings, gone + left)
    append_rows(pa.Table.from_pylist(list(before.values()), schema=arrow_schema(INCIDENTS)), settings, INCIDENTS)
    changes = [Change(left[1]["anomaly_id"], left[1], None)]
    with pytest.raises(DataRefused, match="retention_days has removed the anomalies of 2026-02-28 23:55"):
        incident_changes(settings, changes, clock=CLOCK, kept_since=date(2026, 3, 1))


def test_an_incident_of_a_day_before_retention_that_is_all_there_is_made_anew(settings: Settings) -> None:
    stored = anomalies(-12 * 3600 - 300, -12 * 3600, -12 * 3600 + 300)
    store(settings, stored)
    changes = [Change(stored[2]["anomaly_id"], stored[2], None)]
    (change,) = incident_changes(settings, changes, clock=CLOCK, kept_since=date(2026, 3, 1))
    assert (change.label, change.row["anomalies"]) == ("changed", 2)


def test_an_incident_of_the_kth_warning_keeps_its_opening_when_the_first_came_with_jitter(tmp_path: Path) -> None:
    """
    second   0     140   200        300 new     the second of three window ends opens, at most 150 s after the first
    """
    rules = {"incidents": {"warning_k": 2, "warning_n": 3}, "lake": {"root": str(tmp_path / "lake")}}
    settings = Settings.model_validate(rules)
    create_tables(settings, [ANOMALIES, INCIDENTS, OPERATOR_ACTIONS])
    (opened,) = store(settings, anomalies(0, 140, 200, severity="WARNING", stage="window")).values()
    assert opened["opened_at"] == utc(140)
    (further,) = anomalies(300, severity="WARNING", stage="window")
    (change,) = incident_changes(settings, [Change(further["anomaly_id"], None, further)], clock=CLOCK)
    assert (change.key, change.row["anomalies"]) == (opened["incident_id"], 3)


def test_the_feeders_incident_that_appears_adopts_the_meters(settings: Settings) -> None:
    before = store(settings, anomalies(10))
    feeder = anomaly_row(
        {"t": 5, "anomaly_type": "feeder_undervoltage", "severity": "CRITICAL", "stage": "feeder", "meter_id": None}
    )
    found = incident_changes(settings, [Change(feeder["anomaly_id"], None, feeder)], clock=CLOCK)
    parents = {change.label: change for change in found}
    assert parents["changed"].key in before
    assert parents["changed"].row["parent_id"] == parents["new"].key
    assert parents["changed"].row["alerts"] == 0


def test_moments_and_epoch_milliseconds_agree() -> None:
    assert moment_of(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC)
    assert moment_of(0) + timedelta(milliseconds=1_500) == moment_of(1_500)
