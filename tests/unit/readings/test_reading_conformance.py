"""What every reading rule must do, whatever it judges, and what no input may do to it."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from pipelines.anomalies.rules import RULE_VERSION, RULES
from pipelines.readings.judge import ReadingJudge
from pipelines.readings.rules import reading_rules
from pipelines.settings import Detection
from tests.reading_factories import baselines, judged, meters, readings
from tests.rule_scenarios import FAULT, NEEDS_FIELDS, Sample, faulty, feeder, quiet, rows, subject

READING_RULES = [rule.anomaly_type for rule in RULES if rule.stage == "reading"]
DETECTION = Detection(cadence_s=60)
Event = dict[str, Any]


def events_of(name: str, samples: dict[str, list[Sample]], unit_v: float = 230.0) -> dict[str, list[Event]]:
    """Events by rule; every meter has a baseline that ends with the start of the fault."""
    read = [
        {**row, "event_ms": int(row["ts"].timestamp() * 1000), "kafka_offset": number}
        for number, row in enumerate(rows(samples))
    ]
    random.Random(3).shuffle(read)
    at_fault = next(row["ts"] for row in rows({name: quiet(0)[FAULT:]}))
    scale = unit_v / 230
    window = {"window_end": at_fault, "window_start": at_fault, "mean_v": 230.2 * scale, "std_v": 0.1 * scale}
    of = [{"meter_id": meter, "nominal_voltage_v": unit_v} for meter in samples]
    known = [{"meter_id": meter, **window} for meter in samples]
    found: dict[str, list[Event]] = defaultdict(list)
    judge = ReadingJudge(DETECTION, meters(of), baselines(known))
    for event in judge.events(readings({k: v for k, v in row.items() if k != "ts"} for row in read)):
        found[event["anomalyType"]].append(event)
    return {rule: sorted(events, key=lambda e: (e["eventTime"], e["meterId"])) for rule, events in found.items()}


def test_the_catalogue_names_the_rules_that_there_are() -> None:
    assert {rule.anomaly_type for rule in reading_rules(DETECTION)} == set(READING_RULES)


@pytest.mark.parametrize("rule", READING_RULES)
def test_rule_finds_its_fault_in_the_subject_only_and_explains_it(rule: str) -> None:
    found = events_of("plain", feeder(rule, "plain"))
    assert found[rule]
    assert {event["meterId"] for events in found.values() for event in events} == {subject("plain")}
    for event in found[rule]:
        assert event["message"].startswith(f"Meter {subject('plain')}")
        assert event["message"].endswith(".")
        assert event["score"] is not None
        assert event["ruleVersion"] == RULE_VERSION
        assert rule == "equipment_failure" or None not in (
            event["observed"],
            event["thresholdUsed"],
            event["deviation"],
        )


@pytest.mark.parametrize("rule", READING_RULES)
def test_rule_works_without_the_fields_it_does_not_need(rule: str) -> None:
    """Meters that report a voltage and nothing else are judged by all rules of the voltage."""
    lacking = {
        meter: [replace(s, current_a=None, temperature_c=None, status=None) for s in samples]
        for meter, samples in feeder(rule, "same").items()
    }
    found, plain = events_of("same", lacking), events_of("same", feeder(rule, "same"))
    expected = [] if rule in NEEDS_FIELDS else plain[rule]
    said = [(e["anomalyId"], e["severity"], e["observed"], e["message"]) for e in found.get(rule, [])]
    assert said == [(e["anomalyId"], e["severity"], e["observed"], e["message"]) for e in expected]


@pytest.mark.parametrize("rule", READING_RULES)
def test_limits_are_in_units_of_the_nominal_voltage(rule: str) -> None:
    scale = 1.0 if rule in NEEDS_FIELDS else 120 / 230
    plain = events_of("unit", feeder(rule, "unit"))[rule]
    small = events_of("unit", feeder(rule, "unit", 120.0), 120.0)[rule]
    assert [(e["anomalyId"], e["severity"]) for e in small] == [(e["anomalyId"], e["severity"]) for e in plain]
    for mine, other in zip(small, plain, strict=True):
        if other["observed"] is not None:
            assert mine["observed"] == pytest.approx(scale * other["observed"])
            assert mine["thresholdUsed"] == pytest.approx(scale * other["thresholdUsed"])


@pytest.mark.parametrize("voltage_v", [1e6, -1e6, 1e300, -1e300, 5e-324, 1.7976931348623157e308])
def test_an_absurd_voltage_is_a_finding_with_finite_numbers(voltage_v: float) -> None:
    events = judged([{"voltage_v": voltage_v}], known=[{}])
    assert {e["anomalyType"] for e in events} == {"interruption" if voltage_v == 5e-324 else "implausible_value"} | (
        {"voltage_deviation"} if voltage_v == 5e-324 else set()
    )
    numbers = pl.Series([e[name] for e in events for name in ("score", "observed", "deviation", "thresholdUsed")])
    assert numbers.is_finite().all()


def test_the_order_of_readings_and_the_size_of_the_frame_change_nothing() -> None:
    samples = faulty("overvoltage", quiet(0))
    read = [
        {"event_ms": int(row["ts"].timestamp() * 1000), "voltage_v": row["voltage_v"]} for row in rows({"m": samples})
    ]
    at_once = judged(read, known=[{}])
    one_by_one = [event for row in reversed(read) for event in judged([row], known=[{}])]
    assert sorted(map(str, at_once)) == sorted(map(str, one_by_one))
    assert at_once
