"""Every reading rule at its limits, and the anomaly event that leaves for Kafka."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import pytest

from pipelines.anomalies.events import anomaly_record
from pipelines.contract import message
from pipelines.readings.judge import ReadingJudge
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.readings.rules import judge_readings
from pipelines.settings import Detection
from tests.reading_factories import NOON_MS, at, baselines, judged, meters, ms, readings

Events = list[dict[str, Any]]
Case = tuple[str, dict[str, Any], set[tuple[str, str]]]


def said(*pairs: str) -> set[tuple[str, str]]:
    """{("overvoltage", "ERROR"), ...} of "overvoltage ERROR"."""
    return {(kind, severity) for kind, severity in (pair.split() for pair in pairs)}


def volts(value: float, **more: Any) -> dict[str, Any]:
    """A reading with this voltage."""
    return {"voltage_v": value, **more}


SPIKE, IMPLAUSIBLE = "voltage_spike WARNING", "implausible_value WARNING"
CASES: list[Case] = [
    ("230 V is normal", volts(230.0), said()),
    ("250 V is at the fixed limit", volts(250.0), said()),
    ("250.1 V is above the fixed limit", volts(250.1), said("voltage_spike INFO")),
    ("253 V is at the band's upper limit", volts(253.0), said("voltage_spike INFO")),
    ("253.1 V is above the band", volts(253.1), said(SPIKE, "overvoltage WARNING")),
    ("264.4 V is below 1.15 Un", volts(264.4), said(SPIKE, "overvoltage WARNING")),
    ("264.6 V is above 1.15 Un", volts(264.6), said(SPIKE, "overvoltage ERROR")),
    ("276 V is at 1.20 Un", volts(276.0), said(SPIKE, "overvoltage ERROR")),
    ("276.1 V is above 1.20 Un", volts(276.1), said(SPIKE, "overvoltage CRITICAL")),
    ("345 V is at the plausible limit", volts(345.0), said(SPIKE, "overvoltage CRITICAL")),
    ("345.1 V is implausible and excludes the limit rules", volts(345.1), said(IMPLAUSIBLE)),
    ("2,300 V is implausible", volts(2300.0), said(IMPLAUSIBLE)),
    ("207 V is at the band's lower limit", volts(207.0), said()),
    ("206.9 V is below the band", volts(206.9), said("undervoltage WARNING")),
    ("195.6 V is above 0.85 Un", volts(195.6), said("undervoltage WARNING")),
    ("195.4 V is below 0.85 Un", volts(195.4), said("undervoltage ERROR")),
    ("161 V is at 0.70 Un", volts(161.0), said("undervoltage ERROR")),
    ("160.9 V is below 0.70 Un", volts(160.9), said("undervoltage CRITICAL")),
    ("23 V is the last undervoltage", volts(23.0), said("undervoltage CRITICAL")),
    ("22.9 V is an interruption", volts(22.9), said("interruption CRITICAL")),
    ("0 V is an interruption", volts(0.0), said("interruption CRITICAL")),
    ("-0.1 V is the noise of a dead line", volts(-0.1), said("interruption CRITICAL")),
    ("-1 V is implausible, no interruption", volts(-1.0), said(IMPLAUSIBLE)),
    ("120 V meter: 130.4 V is below the scaled limit", volts(130.4, meter_id="120 V"), said()),
    ("120 V meter: 130.5 V is above it", volts(130.5, meter_id="120 V"), said("voltage_spike INFO")),
    (
        "120 V meter: 132.1 V is above the band",
        volts(132.1, meter_id="120 V"),
        said(SPIKE, "overvoltage WARNING"),
    ),
    (
        "120 V meter: 107.9 V is below the band",
        volts(107.9, meter_id="120 V"),
        said("undervoltage WARNING"),
    ),
    (
        "120 V meter: 11.9 V is an interruption",
        volts(11.9, meter_id="120 V"),
        said("interruption CRITICAL"),
    ),
    ("120 V meter: 180.1 V is implausible", volts(180.1, meter_id="120 V"), said(IMPLAUSIBLE)),
    ("400 V meter: 434.7 V is below the scaled limit", volts(434.7, meter_id="400 V"), said()),
    ("75 °C is at the limit", {"temperature_c": 75.0}, said()),
    ("75.1 °C is above it", {"temperature_c": 75.1}, said("over_temperature WARNING")),
    ("90 °C is still WARNING", {"temperature_c": 90.0}, said("over_temperature WARNING")),
    ("90.1 °C is ERROR", {"temperature_c": 90.1}, said("over_temperature ERROR")),
    ("110 °C is still ERROR", {"temperature_c": 110.0}, said("over_temperature ERROR")),
    ("110.1 °C is CRITICAL", {"temperature_c": 110.1}, said("over_temperature CRITICAL")),
    ("150 °C is at the plausible limit", {"temperature_c": 150.0}, said("over_temperature CRITICAL")),
    ("150.1 °C is implausible", {"temperature_c": 150.1}, said(IMPLAUSIBLE)),
    ("-40 °C is plausible", {"temperature_c": -40.0}, said()),
    ("-40.1 °C is implausible", {"temperature_c": -40.1}, said(IMPLAUSIBLE)),
    ("40 A is at the rated current", {"current_a": 40.0}, said()),
    ("40.1 A is above it", {"current_a": 40.1}, said("overcurrent WARNING")),
    ("48 A is still WARNING", {"current_a": 48.0}, said("overcurrent WARNING")),
    ("48.1 A is ERROR", {"current_a": 48.1}, said("overcurrent ERROR")),
    ("60 A is still ERROR", {"current_a": 60.0}, said("overcurrent ERROR")),
    ("60.1 A is CRITICAL", {"current_a": 60.1}, said("overcurrent CRITICAL")),
    ("no rated current, no overcurrent", {"current_a": 500.0, "meter_id": "unrated"}, said()),
    ("0 A is plausible", {"current_a": 0.0}, said()),
    ("-0.1 A is implausible", {"current_a": -0.1}, said(IMPLAUSIBLE)),
    (
        "an impossible voltage silences the rules of the voltage alone",
        volts(400.0, temperature_c=120.0),
        said(IMPLAUSIBLE, "over_temperature CRITICAL"),
    ),
    (
        "an impossible current and temperature silence no rule of the voltage",
        volts(200.0, current_a=-1.0, temperature_c=170.0),
        said(IMPLAUSIBLE, "undervoltage WARNING"),
    ),
    ("FAILURE in capitals", {"status": "FAILURE"}, said("equipment_failure CRITICAL")),
    ("failure inside a text", {"status": "relay failure 7"}, said("equipment_failure CRITICAL")),
    ("another status", {"status": "FAIL"}, said()),
    ("no status", {"status": None}, said()),
    ("capitals that only some letters have", {"status": "fa\u0131lure"}, said("equipment_failure CRITICAL")),
    ("no current", volts(200.0, current_a=None), said("undervoltage WARNING")),
    ("no temperature", {"temperature_c": None, "current_a": 41.0}, said("overcurrent WARNING")),
    ("a voltage and nothing else", volts(230.0, current_a=None, temperature_c=None, status=None), said()),
    (
        "an implausible voltage and nothing else",
        volts(345.1, current_a=None, temperature_c=None, status=None),
        said(IMPLAUSIBLE),
    ),
    ("an unknown meter has the common limits", volts(206.9, meter_id="unknown"), said("undervoltage WARNING")),
    ("an unknown meter has no rated current", {"current_a": 500.0, "meter_id": "unknown"}, said()),
    (
        "a failure at a normal voltage and at none",
        volts(0.0, status="Failure"),
        said("interruption CRITICAL", "equipment_failure CRITICAL"),
    ),
    (
        "a failure with an implausible voltage",
        volts(-5.0, status="Failure"),
        said(IMPLAUSIBLE, "equipment_failure CRITICAL"),
    ),
    (
        "several rules at once",
        volts(200.0, current_a=70.0, temperature_c=95.0),
        said("undervoltage WARNING", "overcurrent CRITICAL", "over_temperature ERROR"),
    ),
]

DEVIATION: list[tuple[str, dict[str, Any], dict[str, Any] | None, bool]] = [
    # name, the reading, what differs from the ordinary baseline (None: there is none), fires?
    ("3 % of Un is enough", volts(236.9), {}, True),
    ("just below 3 % of Un is silent, however many sigma it is", volts(236.8), {}, False),
    ("a sag fires too", volts(223.1), {}, True),
    ("2.5 sigma of a wide baseline", volts(242.5), {"std_v": 5.0}, True),
    ("just below 2.5 sigma of a wide baseline", volts(242.4), {"std_v": 5.0}, False),
    ("a flat baseline has the floor's width", volts(236.9), {"std_v": 0.0}, True),
    ("one voltage off its own mean, inside the band", volts(228.0), {"mean_v": 221.0}, True),
    ("no baseline at all", volts(240.0), None, False),
    ("8 readings are enough", volts(240.0), {"n": 8}, True),
    ("7 readings are not", volts(240.0), {"n": 7}, False),
    ("a window that ends at the reading is closed", volts(240.0), {"window_end": at(0)}, True),
    ("a window that ends after the reading is not", volts(240.0), {"window_end": at(0.001)}, False),
    ("ten minutes old is fresh enough", volts(240.0), {"window_end": at(-600)}, True),
    ("older than that is not", volts(240.0), {"window_end": at(-600.001)}, False),
    ("another meter's baseline says nothing", volts(240.0), {"meter_id": "m2"}, False),
    ("an implausible reading is not compared", volts(400.0), {}, False),
]


METERS = [
    {},
    {"meter_id": "120 V", "nominal_voltage_v": 120.0},
    {"meter_id": "400 V", "nominal_voltage_v": 400.0},
    {"meter_id": "unrated", "rated_current_a": None},
    *({"meter_id": f"d{i}"} for i in range(len(DEVIATION))),
]


@pytest.fixture(scope="module")
def found() -> dict[int, Events]:
    """Events by number of the case; from 1,000 on the baseline cases, with meters of their own."""
    rows = [{**values, "kafka_offset": i} for i, (_, values, _) in enumerate(CASES)]
    rows += [{**values, "kafka_offset": 1000 + i, "meter_id": f"d{i}"} for i, (_, values, *_) in enumerate(DEVIATION)]
    known = [
        {"meter_id": f"d{i}", **(changed if "meter_id" not in changed else {"meter_id": f"other{i}"})}
        for i, (_, _, changed, _) in enumerate(DEVIATION)
        if changed is not None
    ]
    by_case: dict[int, Events] = {}
    for event in judged(rows, of=METERS, known=known):
        by_case.setdefault(event["source"]["offset"], []).append(event)
    return by_case


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name for name, *_ in CASES])
def test_limit(found: dict[int, Events], number: int) -> None:
    events = found.get(number, [])
    assert {(e["anomalyType"], e["severity"]) for e in events} == CASES[number][2]
    assert len(events) == len(CASES[number][2])


@pytest.mark.parametrize("number", range(len(DEVIATION)), ids=[name for name, *_ in DEVIATION])
def test_deviation_from_the_last_closed_window(found: dict[int, Events], number: int) -> None:
    deviations = [e for e in found.get(1000 + number, []) if e["anomalyType"] == "voltage_deviation"]
    assert len(deviations) == DEVIATION[number][3]
    assert {e["severity"] for e in deviations} <= {"INFO"}, "an early flag opens no incident"


def test_a_meter_that_usually_varies_more_may_deviate_more() -> None:
    ordinary, restless = (
        judged([{"voltage_v": 240.0}], known=[{"p99_deviation_v": p99}]) for p99 in (None, 10.0 / 2.2 + 0.001)
    )
    assert [e["anomalyType"] for e in ordinary] == ["voltage_deviation"]
    assert restless == []


def test_deviation_carries_the_baseline_it_used(found: dict[int, Events]) -> None:
    event = next(e for e in found[1000] if e["anomalyType"] == "voltage_deviation")
    assert event["baseline"] == {"mean": 230.0, "std": 1.0, "n": 30, "windowStart": ms(-310), "windowEnd": ms(-10)}
    assert (event["deviation"], event["thresholdUsed"], event["score"]) == pytest.approx((6.9, 6.9, 1.0))


def test_every_finding_carries_the_baseline_that_is_fresh_whatever_the_rule() -> None:
    """Also one with too few readings to be compared with, and not one that is too old."""
    few, old = (judged([{"voltage_v": 260.0}], known=[{"n": 2, "window_end": at(end)}]) for end in (-10, -601))
    assert [e["anomalyType"] for e in few] == [e["anomalyType"] for e in old] == ["voltage_spike", "overvoltage"]
    assert [e["baseline"]["n"] for e in few] == [2, 2]
    assert [e["baseline"] for e in old] == [None, None]


@pytest.mark.parametrize(
    ("name", "limit", "deviation"),
    [("undervoltage", 207.0, -7.0), ("overcurrent", 40.0, 30.0), ("over_temperature", 75.0, 20.0)],
)
def test_limit_rule_states_its_limit_and_the_distance(
    found: dict[int, Events], name: str, limit: float, deviation: float
) -> None:
    number = next(i for i, (case, *_) in enumerate(CASES) if case == "several rules at once")
    event = next(e for e in found[number] if e["anomalyType"] == name)
    assert (event["thresholdUsed"], event["deviation"]) == pytest.approx((limit, deviation))
    assert event["observed"] == pytest.approx(limit + deviation)
    assert event["score"] > 1
    assert "m1" in event["message"]


def test_rules_speak_in_one_order_whatever_else_is_in_the_frame(found: dict[int, Events]) -> None:
    number = next(i for i, (case, *_) in enumerate(CASES) if case == "several rules at once")
    assert [e["anomalyType"] for e in found[number]] == ["undervoltage", "over_temperature", "overcurrent"]


def test_findings_as_a_frame_have_all_columns_of_the_readings() -> None:
    placed = placed_meters(meters([{}]), detection=Detection())
    placed_readings = attach_meters(
        readings([{}, {"voltage_v": 200.0}, {"voltage_v": 256.0}]), placed, detection=Detection()
    )
    found = judge_readings(placed_readings, detection=Detection())
    assert found.columns[: placed_readings.width] == placed_readings.columns
    assert found["anomaly_type"].to_list() == ["undervoltage", "voltage_spike", "overvoltage"]
    assert found["voltage_v"].to_list() == [200.0, 256.0, 256.0]
    assert judge_readings(placed_readings.head(1), detection=Detection()).schema == found.schema


def test_a_limit_at_the_nominal_voltage_is_no_division_by_zero() -> None:
    (event,) = judged([{"voltage_v": 231.0}], detection=Detection(fixed_voltage_v=230.0))
    assert (event["anomalyType"], event["score"], event["deviation"]) == ("voltage_spike", None, 1.0)


@pytest.mark.parametrize(
    ("reading", "text"),
    [
        ({"voltage_v": 280.25}, "Meter m1: 280.3 V is above the fixed limit of 250.0 V (+30.3 V)."),
        ({"voltage_v": 200.35}, "Meter m1: 200.4 V is below the band's lower limit of 207.0 V (-6.7 V)."),
        ({"voltage_v": 1e300}, f"Meter m1: 1{'0' * 300}.0 V is not possible (limit 345.0):"
         " the reading stays out of every baseline."),
        ({"current_a": -0.25}, "Meter m1: -0.3 A is not possible (limit 0.0):"
         " the reading stays out of every baseline."),
        ({"current_a": 41.0}, "Meter m1: 41.0 A is above the rated current of 40.0 A."),
        ({"temperature_c": 80.0}, "Meter m1: 80.0 °C is above the limit of 75.0 °C."),
        ({"status": "FAILURE" + 80 * "é"}, f"Meter m1 reports the status 'FAILURE{73 * 'é'}'."),
        ({"voltage_v": 0.0}, "Meter m1: 0.0 V is below the interruption limit of 23.0 V (-23.0 V)."),
        ({"voltage_v": -0.0}, "Meter m1: -0.0 V is below the interruption limit of 23.0 V (-23.0 V)."),
        ({"voltage_v": 220.0}, "Meter m1: 220.0 V is -10.0 V off its mean of 230.0 V over 30 readings;"
         " 6.9 V are allowed."),
    ],
)  # fmt: skip
def test_a_message_rounds_halves_away_from_zero(reading: dict[str, Any], text: str) -> None:
    assert text in [event["message"] for event in judged([reading], known=[{}])]


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    """The published example, 280 V against 250 V."""
    events = judged([{"voltage_v": 280.0, "kafka_offset": 7, "kafka_partition": 3, "kafka_item": 2, "status": None}])
    return next(event for event in events if event["anomalyType"] == "voltage_spike")


def test_published_example_is_a_voltage_spike(published: dict[str, Any]) -> None:
    assert published["severity"] == "WARNING"
    assert (published["thresholdUsed"], published["deviation"]) == (250.0, 30.0)
    assert published["originalEvent"] == {
        "meterId": "m1", "timestamp": NOON_MS, "voltage": 280.0, "current": 5.0, "temperature": 20.0, "status": None,
    }  # fmt: skip


def test_published_example_has_the_fields_of_the_contract_in_order(published: dict[str, Any]) -> None:
    assert list(published) == [field.name for field in message("anomaly_event").fields]
    assert published["source"] == {"topic": "sensor-readings", "partition": 3, "offset": 7, "timestamp": NOON_MS}
    of_meter = (published["stage"], published["meterId"], published["feederId"], published["eventTime"])
    assert of_meter == ("reading", "m1", "f1", NOON_MS)
    assert (published["sourceItem"], published["baseline"], published["detectedAt"]) == (2, None, None)


def test_anomaly_record_has_the_meter_as_key_the_id_as_header_and_the_clock_of_its_sender(
    published: dict[str, Any],
) -> None:
    key, value, headers = anomaly_record(published, detected_ms=17)
    assert (key, headers) == (b"m1", [("anomaly-id", published["anomalyId"].encode())])
    sent = json.loads(value)
    assert sent == {**published, "detectedAt": 17}
    assert list(sent) == list(published)


def test_anomaly_id_depends_on_meter_rule_and_event_time_only() -> None:
    rows = [
        {"voltage_v": 280.0, "kafka_offset": 0},
        {
            "voltage_v": 281.0,
            "kafka_offset": 1,
            "kafka_partition": 2,
        },  # sent again with another value
        {"voltage_v": 280.0, "kafka_offset": 2, "meter_id": "m2"},
        {"voltage_v": 280.0, "kafka_offset": 3, "event_ms": ms(0.001)},
    ]
    ids = {(e["source"]["offset"], e["anomalyType"]): e["anomalyId"] for e in judged(rows)}
    assert len(ids) == 8
    for kind in ("voltage_spike", "overvoltage"):
        assert ids[0, kind] == ids[1, kind]
    assert len(set(ids.values())) == 6


def test_anomaly_id_never_changes_between_releases() -> None:
    """Consumers de-duplicate by it across restarts; sha256 of `reading|voltage_spike|meter|m1|<epoch ms>`."""
    (event,) = judged([{"voltage_v": 251.0}])
    assert event["anomalyId"] == sha256(f"reading|voltage_spike|meter|m1|{NOON_MS}".encode()).hexdigest()


def test_no_readings_no_events() -> None:
    judge = ReadingJudge(Detection(), meters([]), baselines([]))
    assert judge.events(readings([])) == []
    assert ReadingJudge(Detection(), meters([])).events(readings([{}])) == []
