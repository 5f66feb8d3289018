"""The evaluation protocol on alarms and labels written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pipelines.detection_settings import Detection
from pipelines.errors import SettingsError
from pipelines.evaluation.alarms import alarms_of, episodes, notifications
from pipelines.evaluation.evaluate import Run, evaluate
from pipelines.evaluation.labels import Label, read_labels
from pipelines.evaluation.load import load
from pipelines.evaluation.plain_rule import plain_alarms
from pipelines.evaluation.plots import draw
from pipelines.evaluation.score import judge as judged
from pipelines.evaluation.score import score

NOON = pd.Timestamp("2026-03-02T12:00Z")
NO_CHILDREN = pd.DataFrame()
FLEET = pd.DataFrame({"meter_id": ["m1", "m2", "m3"], "feeder_id": ["f1", "f1", "f2"]})


def at(minutes: float) -> pd.Timestamp:
    return NOON + pd.Timedelta(minutes=minutes)


def label(kind: str, start: float, end: float, meter: str = "m1") -> Label:
    types = frozenset({"undervoltage"} if kind == "sag" else {"stuck_sensor"})
    return Label(kind, False, frozenset({meter}), "f1", at(start), at(end), types)


def event(start: float, end: float) -> Label:
    types = frozenset({"feeder_undervoltage"})
    return Label("feeder_sag", True, frozenset({"m1", "m2"}), "f1", at(start), at(end), types)


def anomalies(*rows: tuple[Any, ...]) -> pd.DataFrame:
    """(meter, minute, type, severity, stage); a feeder's has no meter."""
    return pd.DataFrame(
        [(m, "f1", at(t), kind, severity, stage) for m, t, kind, severity, stage in rows],
        columns=["meter_id", "feeder_id", "event_ts", "anomaly_type", "severity", "stage"],
    )


def under(t: float, meter: str = "m1", severity: str = "WARNING") -> tuple[Any, ...]:
    return meter, t, "undervoltage", severity, "reading"


def judge(labels: list[Label], *rows: tuple[Any, ...]) -> dict[str, Any]:
    """Figures over one meter-day, with a slide of a minute."""
    alarms = alarms_of(anomalies(*rows), slide_s=60.0)
    found = judged(labels, alarms, NO_CHILDREN, detection=Detection(), gap_s=300.0, strict=True)
    return score(labels, found, meter_days=1.0)


def test_alarms_five_minutes_apart_are_one_episode() -> None:
    found = episodes(alarms_of(anomalies(under(0), under(5), under(10.1)), slide_s=60.0), gap_s=300.0)
    assert [(e.start, e.end) for e in found] == [(at(0), at(5)), (at(10.1), at(10.1))]


@pytest.mark.parametrize(("minute", "found"), [(-0.1, 0), (0, 1), (10, 1), (15, 1), (15.1, 0)])
def test_a_fast_fault_is_found_until_five_minutes_after_it(minute: float, found: int) -> None:
    assert judge([label("sag", 0, 10)], under(minute))["kinds"]["sag"]["found"] == found


@pytest.mark.parametrize(("minute", "found"), [(10, 1), (10.1, 0)])
def test_a_slow_fault_must_be_found_before_it_ends(minute: float, found: int) -> None:
    figures = judge([label("stuck", 0, 10)], ("m1", minute, "stuck_sensor", "WARNING", "reading"))
    assert figures["kinds"]["stuck"]["found"] == found
    assert figures["all"]["precision"] == 1.0


def test_an_alarm_that_stays_on_counts_again_every_30_minutes() -> None:
    figures = judge([], *(under(t) for t in range(0, 65, 5)))
    assert figures["false_alarms_per_meter_day"] == {"WARNING": 3.0, "ERROR": 0.0, "CRITICAL": 0.0}


def test_a_feeders_event_must_be_found_by_the_feeder() -> None:
    of_feeder = (None, 1, "feeder_undervoltage", "CRITICAL", "feeder")
    assert judge([event(0, 2)], under(1))["all"]["recall"] == 0.0
    assert judge([event(0, 2)], of_feeder)["all"]["recall"] == 1.0
    assert judge([event(0, 2)], under(1), under(1, "m2"))["all"]["precision"] == 1.0
    assert judge([event(0, 2)], under(1, "m2"), of_feeder)["all"]["precision"] == 1.0


def test_an_alarm_of_another_meter_finds_nothing() -> None:
    figures = judge([label("sag", 0, 10)], under(1, "m2"))
    assert (figures["all"]["recall"], figures["all"]["precision"]) == (0.0, 0.0)
    assert figures["missed"] == ["sag m1 03-02 12:00"]
    assert figures["false"] == ["m2 03-02 12:01 undervoltage"]


def test_precision_of_a_kind_looks_at_the_types_that_should_find_it() -> None:
    stuck = ("m1", 100, "stuck_sensor", "WARNING", "reading")
    figures = judge([label("sag", 0, 10), label("stuck", 0, 10, "m2")], under(1), stuck)
    assert figures["kinds"]["sag"]["precision"] == 1.0
    assert figures["kinds"]["stuck"]["precision"] == 0.0


def test_a_delay_ends_when_the_slide_ends() -> None:
    window = ("m1", 1.2, "undervoltage", "ERROR", "window")
    assert judge([label("sag", 0, 10)], window)["all"]["delay_p50_s"] == 120.0
    assert judge([label("sag", 0, 10)], under(1.2))["all"]["delay_p50_s"] == 72.0


def test_info_and_spikes_are_no_alarms() -> None:
    spike = ("m1", 0, "voltage_spike", "WARNING", "reading")
    assert alarms_of(anomalies(under(0, severity="INFO"), spike), slide_s=60.0).empty


def test_notifications_of_a_feeder_event_are_counted_apart() -> None:
    sent = pd.DataFrame(
        [(at(1), None, "f1"), (at(2), "m1", "f1"), (at(20), "m1", "f1"), (at(21), "m3", "f2")],
        columns=["ts", "meter_id", "feeder_id"],
    )
    figures = load(sent, [event(0, 2)], meters=2, days=0.5)
    assert (figures["per_feeder_event"], figures["worst_10_min"]) == (2.0, 2)
    assert figures["per_meter_day"] == 4.0


def test_a_child_has_no_notification() -> None:
    steps = [{"at": int(NOON.value // 10**6), "severity": "WARNING"}]
    common = {"meter_id": "m1", "feeder_id": "f1", "scope": "meter", "severity_history": steps}
    rows = pd.DataFrame([{**common, "alerts": 1}, {**common, "alerts": 0}])
    assert list(notifications(rows)["ts"]) == [NOON]


def test_the_plain_rule_leaves_the_tested_reading_out() -> None:
    volts = [230.0, 230.2, 229.9, 230.1, 233.0, 230.0, 251.0]
    readings = pd.DataFrame({"meter_id": "m1", "feeder_id": "f1", "ts": [at(i) for i in range(7)], "voltage_v": volts})
    found = plain_alarms(readings)
    assert [(t, kind) for t, kind in zip(found["ts"], found["anomaly_type"], strict=True)] == [
        (at(4), "2.5 sigma"),
        (at(6), "above 250 V"),
    ]


def test_labels_of_the_only_feeder_need_not_name_it(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("kind,scope,meter_id,start,end\nphase_fault,phase,,2026-03-02 12:00:00,2026-03-02 12:01:00\n")
    (found,) = read_labels(path, FLEET[FLEET["feeder_id"] == "f1"])
    assert (found.meters, found.start) == (frozenset({"m1", "m2"}), NOON)
    with pytest.raises(SettingsError, match="names no feeder"):
        read_labels(path, FLEET)


def test_labels_without_a_column_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("kind,scope\nsag,meter\n")
    with pytest.raises(SettingsError, match="no column meter_id, start, end"):
        read_labels(path, FLEET)


def run_of(labels: list[Label], found: pd.DataFrame) -> Run:
    """A day of three meters that read 230 V, with one incident."""
    readings = pd.DataFrame(
        [(m, f, at(t), 230.0) for m, f in FLEET.to_numpy() for t in range(0, 1441, 60)],
        columns=["meter_id", "feeder_id", "ts", "voltage_v"],
    )
    incident = {
        "incident_id": "i", "scope": "meter", "meter_id": "m1", "feeder_id": "f1", "family": "voltage-low",
        "severity": "WARNING", "alerts": 1, "parent_id": None, "opened_at": at(1), "last_anomaly_at": at(2),
        "message": "<low>", "severity_history": [{"at": int(at(1).value // 10**6), "severity": "WARNING"}],
    }  # fmt: skip
    return Run(readings, found, pd.DataFrame([incident]), labels, 60.0)


def test_evaluation_puts_the_plain_rule_beside(tmp_path: Path) -> None:
    run = run_of([label("sag", 0, 10)], anomalies(under(1)))
    figures = evaluate(run)
    assert (figures["meters"], figures["days"]) == (3, 1.0)
    assert (figures["gridwatch"]["all"]["f1"], figures["plain"]["all"]["recall"]) == (1.0, 0.0)
    paths = draw(run, tmp_path)
    assert [path.name for path in paths] == ["voltage-m1.svg", "alarms-per-day.svg"]
    assert "&lt;low&gt;" in paths[0].read_text()


def test_children_of_a_feeders_incident_are_no_episodes_of_their_own() -> None:
    run = run_of([event(0, 2)], anomalies(under(1), (None, 1, "feeder_undervoltage", "CRITICAL", "feeder")))
    assert evaluate(run)["gridwatch"]["all"]["episodes"] == 2
    run.incidents["parent_id"] = "feeder"
    assert evaluate(run)["gridwatch"]["all"]["episodes"] == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sag,Meter,m1,2026-03-02T12:00Z,2026-03-02T12:01Z", "scope = 'Meter'"),
        ("sag,meter,m1,2026-03-02T12:02Z,2026-03-02T12:01Z", "is before start"),
        ("sag,meter,m1,2026-03-02T12:02Z,", "end = ''"),
        ("sag,meter,m1,yesterday,2026-03-02T12:01Z", "start = 'yesterday'"),
        ("sag,meter,,2026-03-02T12:00Z,2026-03-02T12:01Z", "no meter_id"),
        ("weird,meter,m1,2026-03-02T12:00Z,2026-03-02T12:01Z", "kind = 'weird'"),
    ],
)
def test_a_label_that_cannot_be_is_one_line(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(f"kind,scope,meter_id,start,end\n{line}\n")
    with pytest.raises(SettingsError) as caught:
        read_labels(path, FLEET)
    assert said in str(caught.value)
    assert "line 2" in str(caught.value)
