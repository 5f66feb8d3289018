"""An evaluation that cannot be flooded: what of an alarm belongs to a label, and what does not."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from pipelines.evaluation.evaluate import Run, evaluate
from pipelines.evaluation.labels import Label

MIDNIGHT = pd.Timestamp("2026-03-02T00:00Z")
METERS = [f"m{i}" for i in range(5)]
DAY = 1440


def at(minutes: float) -> pd.Timestamp:
    return MIDNIGHT + pd.Timedelta(minutes=minutes)


def label(kind: str, types: str, start: float, end: float, meter: str = "m0") -> Label:
    return Label(kind, False, frozenset({meter}), "f1", at(start), at(end), frozenset(types.split("|")))


def outage(start: float, end: float) -> Label:
    types = frozenset({"feeder_undervoltage", "feeder_overvoltage", "feeder_outage"})
    return Label("feeder_outage", True, frozenset(METERS), "f1", at(start), at(end), types)


def alarm(meter: str | None, minute: float, kind: str, stage: str = "window", severity: str = "WARNING") -> Any:
    return meter, "f1", at(minute), kind, severity, stage


def child(meter: str, opened: float, last: float, family: str = "silence", parent: str | None = "feeder") -> Any:
    return {"meter_id": meter, "feeder_id": "f1", "family": family, "opened_at": at(opened),
            "last_anomaly_at": at(last), "parent_id": parent, "scope": "meter", "severity": "WARNING",
            "severity_history": [], "alerts": 0}  # fmt: skip


def judged(
    labels: list[Label], alarms: list[Any], incidents: list[Any] | None = None, *, slide_s: float = 180.0
) -> dict[str, Any]:
    """Figures over five meters and a day, with windows of five slides (of 3 min)."""
    readings = pd.DataFrame(
        [(meter, "f1", at(minute), 230.0) for meter in METERS for minute in range(0, DAY + 1, 30)],
        columns=["meter_id", "feeder_id", "ts", "voltage_v"],
    )
    names = ["meter_id", "feeder_id", "event_ts", "anomaly_type", "severity", "stage"]
    rows = incidents or [child("m0", 0, 0, parent=None)]
    run = Run(readings, pd.DataFrame(alarms, columns=names), pd.DataFrame(rows), labels, slide_s, 5 * slide_s)
    figures: dict[str, Any] = evaluate(run)["gridwatch"]
    return figures


def test_a_flood_on_all_meters_is_seen_beside_the_faults_it_covers() -> None:
    labels = [label("sag", "undervoltage", 200 + 10 * i, 205 + 10 * i, meter) for i, meter in enumerate(METERS)]
    true = [alarm(x, 201 + 10 * i, "undervoltage", "reading") for i, x in enumerate(METERS)]
    flood = [alarm(meter, minute, "voltage_step") for meter in METERS for minute in range(0, DAY, 4)]
    assert judged(labels, true)["all"]["precision"] == 1.0
    figures = judged(labels, true + flood)
    assert figures["all"]["recall"] == 1.0
    assert figures["all"]["precision"] < 0.03
    assert figures["false_alarms_per_meter_day"]["WARNING"] > 40
    assert figures["false_minutes_per_meter_day"] > 1300


def test_a_flood_of_silence_under_a_false_feeder_outage_is_seen() -> None:
    """The wrong cadence: the feeder's outage stays on, and every meter is silent again and again."""
    labels = [outage(600, 610), *(label("sag", "undervoltage", 300, 305, meter) for meter in METERS)]
    true = [alarm(meter, 301, "undervoltage", "reading") for meter in METERS]
    feeder = [alarm(None, minute, "feeder_outage", "feeder", "CRITICAL") for minute in range(0, DAY, 3)]
    silent = [alarm(meter, minute, "meter_silent") for meter in METERS for minute in range(5, DAY, 15)]
    figures = judged(labels, true + feeder + silent, [child(meter, 5, DAY) for meter in METERS])
    assert figures["all"]["recall"] == 1.0
    assert figures["all"]["precision"] < 0.05
    assert figures["false_alarms_per_meter_day"]["CRITICAL"] == pytest.approx((20 + 28) / 5)
    assert figures["false_alarms_per_meter_day"]["WARNING"] > 80


def test_what_a_feeders_alarm_lasts_beyond_its_event_is_false() -> None:
    feeder = [alarm(None, minute, "feeder_outage", "feeder", "CRITICAL") for minute in range(600, 701)]
    figures = judged([outage(600, 610)], feeder)
    assert (figures["all"]["recall"], figures["all"]["precision"]) == (1.0, pytest.approx(1 / 4))
    assert figures["false_minutes_per_meter_day"] == pytest.approx((700 - 619) / 5)


@pytest.mark.parametrize(
    ("kind", "stage", "minutes"),
    [
        ("undervoltage", "reading", 5),
        ("stuck_sensor", "window", 5 + 3),
        ("sustained_undervoltage", "window", 5 + 15),
        ("noisy_sensor", "window", 5 + 15),
        ("voltage_deviation", "window", 5 + 15),
        ("voltage_drift", "window", 5 + 30),
    ],
)
def test_a_true_alarm_may_end_as_late_as_its_rule_looks_back(kind: str, stage: str, minutes: int) -> None:
    labels = [label("sag", f"{kind}|interruption", 100, 160)]
    within = [alarm("m0", minute, kind, stage) for minute in (*range(100, 160, 3), *range(160, 161 + minutes))]
    assert judged(labels, within)["all"]["precision"] == 1.0
    assert judged(labels, [*within, alarm("m0", 160.1 + minutes, kind, stage)])["all"]["precision"] == 0.5


def test_an_alarm_that_begins_later_than_five_minutes_after_the_fault_is_false_whatever_its_rule() -> None:
    labels = [label("sag", "undervoltage|sustained_undervoltage", 100, 160)]
    found = alarm("m0", 159, "undervoltage", "reading")
    late = alarm("m0", 165.1, "sustained_undervoltage", severity="ERROR")
    assert judged(labels, [found, late])["all"]["precision"] == 0.5
    assert judged(labels, [found, alarm("m0", 163, "undervoltage", "reading"), late])["all"]["precision"] == 1.0


def test_a_long_slide_dates_an_alarm_later() -> None:
    rise = label("temperature_rise", "temperature_rise", 100, 110)
    assert judged([rise], [alarm("m0", 155, "temperature_rise")], slide_s=2700.0)["all"]["precision"] == 1.0
    assert judged([rise], [alarm("m0", 155.1, "temperature_rise")], slide_s=2700.0)["all"]["precision"] == 0.0
    assert judged([rise], [alarm("m0", 115.1, "temperature_rise", "reading")], slide_s=2700.0)["all"]["false"] == 1


def test_the_types_of_the_label_decide() -> None:
    own = label("stuck", "stuck_sensor", 100, 160)
    assert judged([own], [alarm("m0", 120, "over_temperature")])["all"] | {"labels": 0} == {
        "labels": 0, "found": 0, "recall": 0.0, "episodes": 1, "false": 1, "precision": 0.0, "f1": 0.0,
        "delay_p50_s": None, "delay_p95_s": None,
    }  # fmt: skip
    listed = label("stuck", "over_temperature", 100, 160)
    assert judged([listed], [alarm("m0", 120, "over_temperature")])["all"]["f1"] == 1.0
    unknown = label("smell", "", 100, 160)
    assert judged([unknown], [alarm("m0", 120, "over_temperature")])["all"]["f1"] == 1.0


def test_what_else_rings_during_a_found_fault_belongs_to_it() -> None:
    alarms = [alarm("m0", 110, "stuck_sensor"), alarm("m0", 112, "voltage_deviation")]
    assert judged([label("stuck", "stuck_sensor", 100, 160)], alarms)["all"]["precision"] == 1.0


def test_an_alarm_from_before_the_fault_is_false_up_to_it() -> None:
    alarms = [alarm("m0", minute, "voltage_step") for minute in range(0, 110, 3)]
    figures = judged([label("step", "voltage_step", 100, 160)], alarms)
    assert (figures["all"]["recall"], figures["all"]["precision"]) == (1.0, pytest.approx(1 / 5))


def test_a_child_is_judged_by_itself_where_its_feeders_alarm_is_false() -> None:
    feeder = [alarm(None, minute, "feeder_outage", "feeder", "CRITICAL") for minute in (300, 303)]
    silent = [alarm("m1", 301, "meter_silent")]
    true = judged([outage(299, 305)], feeder + silent, [child("m1", 301, 301)])
    assert (true["all"]["episodes"], true["all"]["precision"]) == (1, 1.0)
    false = judged([outage(900, 910)], feeder + silent, [child("m1", 301, 301)])
    assert (false["all"]["episodes"], false["all"]["precision"]) == (2, 0.0)


def test_a_childs_mean_may_end_later_than_its_feeders_alarm() -> None:
    feeder = alarm(None, 301, "feeder_outage", "feeder", "CRITICAL")
    mean = [alarm("m1", minute, "sustained_undervoltage") for minute in (306, 312, 325)]
    of_child = child("m1", 306, 325, "voltage-low")
    assert judged([outage(300, 305)], [feeder, *mean], [of_child])["all"]["precision"] == 1.0
    longer = child("m1", 306, 326, "voltage-low")
    late = alarm("m1", 326, "sustained_undervoltage")
    assert judged([outage(300, 305)], [feeder, *mean, late], [longer])["all"]["precision"] == 0.5
    afterwards = child("m1", 311, 325, "voltage-low")
    assert judged([outage(300, 305)], [feeder, *mean[1:]], [afterwards])["all"]["false"] == 2


def test_the_meters_of_a_feeders_event_may_say_what_it_explains_and_nothing_else() -> None:
    feeder = [alarm(None, 301, "feeder_outage", "feeder", "CRITICAL")]
    assert judged([outage(300, 305)], [*feeder, alarm("m1", 302, "meter_silent")])["all"]["precision"] == 1.0
    assert judged([outage(300, 305)], [*feeder, alarm("m1", 302, "over_temperature")])["all"]["precision"] == 0.5


def test_a_true_part_counts_once_however_long_it_is() -> None:
    alarms = [alarm("m0", minute, "stuck_sensor") for minute in range(100, 700, 3)]
    figures = judged([label("stuck", "stuck_sensor", 90, 700)], [*alarms, alarm("m1", 100, "stuck_sensor")])
    assert figures["all"]["precision"] == 0.5
