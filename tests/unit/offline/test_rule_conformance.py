"""What every rule must do, whatever it judges, and what no input may do to them; one detection over all of it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.anomalies.rows import event_rows
from pipelines.anomalies.rules import RULE_VERSION, RULES
from pipelines.incidents.sessions import sessionise
from pipelines.lake.frames import schema_of
from pipelines.offline.detect import as_readings
from pipelines.offline.detection import Detected, build
from pipelines.tables import METERS, PROFILES
from tests.factories import settings
from tests.rule_scenarios import FAULTS, NEEDS_FIELDS, NOT_IN_VOLTS, START, Sample, feeder, fleet, quiet, rows, subject

SETTINGS = settings(detection={"cadence_s": 60})
Row = dict[str, Any]
Meters = dict[str, list[Sample]]


def variants(rule: str) -> dict[str, Meters]:
    """The feeder of a rule as it is, with every reading twice, without what a file may lack, at 120 V, and cut so
    that the subject has three readings and no past."""
    short = feeder(rule, f"short-{rule}")
    short[subject(f"short-{rule}")] = [s for s in short[subject(f"short-{rule}")] if 45 <= s.minute < 48]
    lacking = feeder(rule, f"null-{rule}")
    return {
        "plain": feeder(rule, f"plain-{rule}"),
        "twice": {m: [s for s in some for _ in range(2)] for m, some in feeder(rule, f"twice-{rule}").items()},
        "null": {
            m: [replace(s, current_a=None, temperature_c=None, status=None) for s in some]
            for m, some in lacking.items()
        },
        "unit": feeder(rule, f"unit-{rule}", 120.0),
        "short": short,
    }


def bad() -> Meters:
    """Meters whose data is bad, each on a feeder of its own beside five good ones unless its name says otherwise."""
    late = [replace(s, minute=s.minute + (60.0 if 30 <= s.minute < 40 else 0.0)) for s in quiet(0)]
    ahead = [replace(s, minute=s.minute + (525_600.0 if s.minute == 30 else 0.0)) for s in quiet(0)]
    faster = [s for s in quiet(0) if s.minute < 45]
    faster += [Sample(45 + i / 4, 230.0 + i * 3 % 5 / 10) for i in range(180)]
    slower = [s for s in quiet(0) if s.minute < 45 or s.minute % 4 == 0 or s.minute == 89]
    back = [replace(s, minute=s.minute - (20.0 if 30 <= s.minute < 40 else 0.0)) for s in quiet(0)]
    rarer = [s for s in quiet(0) if s.minute < 30 or s.minute % 10 == 0]
    absurd = [replace(s, voltage_v=(-1) ** i * 10.0 ** (3 + i % 300), current_a=-1e300) for i, s in enumerate(quiet(0))]
    found: Meters = {"unknown": quiet(0), "homeless": quiet(1), "alone/m0": quiet(2), "pair/m0": quiet(0)}
    found["pair/m1"] = quiet(1)
    for name, samples in {
        "jump": late,
        "year": ahead,
        "back": back,
        "rarer": rarer,
        "huge": [replace(s, voltage_v=(-1) ** i * 1e6 * (i + 1)) for i, s in enumerate(quiet(0))],
        "faster": faster,
        "slower": slower,
        "zero": [replace(s, voltage_v=0.0) for s in quiet(0)],
        "absurd": absurd,
        "empty": [replace(s, voltage_v=float("nan")) for s in quiet(0)],
    }.items():
        found |= feeder(None, name) | {subject(name): samples}
    return found | zeros()


def zeros() -> Meters:
    """Twelve meters: three always read zero, which is an outage when first seen; the others have a sag of two minutes,
    and later an outage."""

    def shaken(samples: list[Sample]) -> list[Sample]:
        volts = {**dict.fromkeys((35, 36), 200.0), **dict.fromkeys((70, 71), 1.0)}
        return [replace(s, voltage_v=volts.get(int(s.minute), s.voltage_v)) for s in samples]

    dead = {f"zeros/m{i}": [replace(s, voltage_v=0.0) for s in quiet(i)] for i in range(3)}
    return dead | {f"zeros/m{i}": shaken(quiet(i)) for i in range(3, 12)}


@pytest.fixture(scope="module")
def detected() -> Detected:
    """Everything above in one file, its lines shuffled."""
    known, readings = [], list(rows(bad()))
    for rule in FAULTS:
        for name, meters in variants(rule).items():
            readings += rows(meters)
            known += fleet(meters, 120.0 if name == "unit" else 230.0)
    known += fleet({m: s for m, s in bad().items() if "/" in m})
    known.append({"meter_id": "homeless", "feeder_id": None})
    random.Random(3).shuffle(readings)
    days = [
        {"meter_id": m["meter_id"], "profile_date": (START - timedelta(days=1)).date(), "residual_offset_v": 0.0}
        for m in known
        if "voltage_drift" in m["meter_id"]
    ]
    profiles = pl.DataFrame(days, schema=schema_of(PROFILES))
    return build(in_a_file(readings), meters_of(known), profiles, settings=SETTINGS)


def meters_of(known: list[dict[str, Any]]) -> pl.DataFrame:
    """Rows of the table meters."""
    defaults = {"feeder_id": "f1", "nominal_voltage_v": 230.0, "rated_current_a": 40.0}
    return pl.DataFrame([defaults | row for row in known], schema=schema_of(METERS))


def in_a_file(readings: list[dict[str, Any]]) -> pl.DataFrame:
    """The readings as `detect` takes them from a file in this order; NaN is no voltage."""
    numbered = pl.DataFrame(readings, infer_schema_length=None).with_row_index("row_number")
    return as_readings(numbered.cast({"ts": pl.Datetime("us", "UTC")}).filter(pl.col("voltage_v").is_finite()))


def incidents_of(detected: Detected) -> list[Row]:
    clock = detected.windows["window_end"].max()
    rows = event_rows(detected.anomalies).to_pylist()
    return sessionise(rows, clock=clock, settings=SETTINGS.session_rules, step_s=SETTINGS.detection.steps_s)


@pytest.fixture(scope="module")
def found(detected: Detected) -> dict[str, list[Row]]:
    """Anomalies by feeder (by meter where there is none)."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    rows_found = event_rows(detected.anomalies).to_pylist()
    for row in sorted(rows_found, key=lambda row: (row["event_ts"], row["anomaly_type"])):
        by_name[row["feeder_id"] or row["meter_id"]].append(row)
    return by_name


def of_rule(found: dict[str, list[Row]], variant: str, rule: str) -> list[Row]:
    return [row for row in found[f"{variant}-{rule}"] if row["anomaly_type"] == rule]


def brief(rows: list[Row]) -> list[tuple[Any, ...]]:
    """What must not change: scope within the feeder, time, severity, and what was observed.

    Sums of floating-point numbers depend on their order in the last digits.
    """
    figures = [[value and round(value, 6) for value in (r["observed"], r["threshold_used"])] for r in rows]
    places = [(r["meter_id"] or "").partition("/")[2] for r in rows]
    return [(place, r["event_ts"], r["severity"], *two) for place, r, two in zip(places, rows, figures, strict=True)]


def test_every_rule_has_a_scenario() -> None:
    assert set(FAULTS) == {rule.anomaly_type for rule in RULES}


@pytest.mark.parametrize("rule", FAULTS)
def test_rule_finds_its_fault_and_only_in_the_subject(found: dict[str, list[Row]], rule: str) -> None:
    rows = of_rule(found, "plain", rule)
    assert rows
    if not rule.startswith("feeder_"):
        assert {r["meter_id"] for r in found[f"plain-{rule}"]} == {subject(f"plain-{rule}")}


@pytest.mark.parametrize("rule", FAULTS)
def test_anomaly_explains_itself(found: dict[str, list[Row]], rule: str) -> None:
    for row in of_rule(found, "plain", rule):
        assert row["message"].endswith(".")
        assert (row["meter_id"] or row["feeder_id"]) in row["message"]
        assert row["score"] is not None
        assert row["rule_version"] == RULE_VERSION
        assert rule == "equipment_failure" or None not in (row["observed"], row["threshold_used"], row["deviation"])


@pytest.mark.parametrize("rule", FAULTS)
def test_readings_sent_twice_change_nothing(found: dict[str, list[Row]], rule: str) -> None:
    assert brief(of_rule(found, "twice", rule)) == brief(of_rule(found, "plain", rule))


@pytest.mark.parametrize("rule", FAULTS)
def test_rule_works_without_the_fields_it_does_not_need(found: dict[str, list[Row]], rule: str) -> None:
    expected = [] if rule in NEEDS_FIELDS else brief(of_rule(found, "plain", rule))
    assert brief(of_rule(found, "null", rule)) == expected


@pytest.mark.parametrize("rule", FAULTS)
def test_limits_are_in_units_of_the_nominal_voltage(found: dict[str, list[Row]], rule: str) -> None:
    scale = 1.0 if rule in NOT_IN_VOLTS else 120 / 230
    plain, small = of_rule(found, "plain", rule), of_rule(found, "unit", rule)
    assert [(r["event_ts"], r["severity"]) for r in small] == [(r["event_ts"], r["severity"]) for r in plain]
    for mine, other in zip(small, plain, strict=True):
        if other["observed"] is not None:
            assert mine["observed"] == pytest.approx(scale * other["observed"])
            assert mine["threshold_used"] == pytest.approx(scale * other["threshold_used"])


NEEDS_HISTORY = [rule.anomaly_type for rule in RULES if rule.stage == "window" and rule.anomaly_type != "meter_silent"]


@pytest.mark.parametrize("rule", [*NEEDS_HISTORY, "voltage_deviation"])
def test_rule_is_silent_when_the_history_is_short(found: dict[str, list[Row]], rule: str) -> None:
    assert of_rule(found, "short", rule) == []


@pytest.mark.parametrize("name", ["unknown", "homeless", "alone", "pair", "faster", "slower", "empty"])
def test_bad_topology_and_cadence_raise_nothing(found: dict[str, list[Row]], name: str) -> None:
    said = [row["anomaly_type"] for row in found[name] if row["severity"] != "INFO"]
    assert said == []


def test_a_clock_that_jumps_disturbs_no_other_meter(found: dict[str, list[Row]]) -> None:
    for name in ("jump", "year", "back"):
        assert {row["meter_id"] for row in found[name]} <= {subject(name)}
        assert {row["anomaly_type"] for row in found[name]} <= {"meter_silent", "stuck_sensor"}
        assert len(found[name]) <= 4


def test_a_meter_that_reports_more_rarely_from_now_on_is_silent_a_few_times(found: dict[str, list[Row]]) -> None:
    assert {(row["meter_id"], row["anomaly_type"]) for row in found["rarer"]} == {(subject("rarer"), "meter_silent")}
    assert 1 <= len([row for row in found["rarer"] if row["severity"] != "INFO"]) <= 3


def test_dead_meters_do_not_hide_what_befalls_their_feeder(detected: Detected) -> None:
    incidents = [r for r in incidents_of(detected) if r["feeder_id"] == "zeros"]
    of_feeder = sorted((r for r in incidents if r["scope"] == "feeder"), key=lambda r: r["opened_at"])
    assert [(r["anomaly_type"], r["status"], r["alerts"]) for r in of_feeder] == [
        ("feeder_outage", "closed", 1),
        ("feeder_undervoltage", "closed", 1),
        ("feeder_outage", "closed", 1),
    ]
    assert not [r for r in incidents if r["scope"] == "meter" and r["alerts"]]


def test_without_a_fleet_meters_are_judged_and_feeders_are_not() -> None:
    usable = in_a_file(list(rows(feeder("feeder_undervoltage", "nowhere"))))
    said = build(usable, meters_of([]), None, settings=SETTINGS).anomalies
    assert {event["anomalyType"] for event in said if event["severity"] != "INFO"} == {"undervoltage"}
    assert len({event["meterId"] for event in said}) == 6


def test_a_meter_at_zero_is_one_incident(found: dict[str, list[Row]], detected: Detected) -> None:
    assert {row["anomaly_type"] for row in found["zero"]} == {"interruption", "sustained_undervoltage"}
    incidents = [r for r in incidents_of(detected) if r["feeder_id"] == "zero"]
    assert [(r["family"], r["severity"], r["alerts"]) for r in incidents] == [("voltage-low", "CRITICAL", 1)]


def test_absurd_values_are_implausible_and_enter_no_baseline(found: dict[str, list[Row]], detected: Detected) -> None:
    for name in ("absurd", "huge"):
        assert {row["anomaly_type"] for row in found[name]} == {"implausible_value"}
    incidents = [r for r in incidents_of(detected) if r["feeder_id"] == "absurd"]
    assert [(r["family"], r["severity"], r["alerts"]) for r in incidents] == [("health", "ERROR", 2)]
