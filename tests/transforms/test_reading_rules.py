"""Every reading rule at its limits, and the anomaly event that leaves for Kafka."""

from __future__ import annotations

import json
from datetime import datetime
from hashlib import sha256
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from pipelines.contract import message
from pipelines.settings import Settings
from pipelines.tables import BASELINES
from pipelines.transforms.anomalies import decode_anomalies, encode_anomalies
from pipelines.transforms.reading_rules import attach_baseline, judge_readings, reading_anomalies
from tests.factories import NOON, NOON_MS, at, frame, ms, placed_frame

DETECTION = Settings().detection
TICKS = Settings().kafka.topics.ticks
ACTIONS = "operator-actions"
BASELINE = {
    "meter_id": "m1",
    "window_start": at(-310),
    "window_end": at(-10),
    "n": 30,
    "mean_v": 230.0,
    "std_v": 1.0,
}

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
    ("120 V meter: 130.4 V is below the scaled limit", volts(130.4, nominal_voltage_v=120.0), said()),
    ("120 V meter: 130.5 V is above it", volts(130.5, nominal_voltage_v=120.0), said("voltage_spike INFO")),
    (
        "120 V meter: 132.1 V is above the band",
        volts(132.1, nominal_voltage_v=120.0),
        said(SPIKE, "overvoltage WARNING"),
    ),
    (
        "120 V meter: 107.9 V is below the band",
        volts(107.9, nominal_voltage_v=120.0),
        said("undervoltage WARNING"),
    ),
    (
        "120 V meter: 11.9 V is an interruption",
        volts(11.9, nominal_voltage_v=120.0),
        said("interruption CRITICAL"),
    ),
    ("120 V meter: 180.1 V is implausible", volts(180.1, nominal_voltage_v=120.0), said(IMPLAUSIBLE)),
    ("400 V meter: 434.7 V is below the scaled limit", volts(434.7, nominal_voltage_v=400.0), said()),
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
    ("no rated current, no overcurrent", {"current_a": 500.0, "rated_current_a": None}, said()),
    ("0 A is plausible", {"current_a": 0.0}, said()),
    ("-0.1 A is implausible", {"current_a": -0.1}, said(IMPLAUSIBLE)),
    (
        "one implausible value silences the others",
        volts(300.0, current_a=-1.0, temperature_c=120.0),
        said(IMPLAUSIBLE),
    ),
    ("FAILURE in capitals", {"status": "FAILURE"}, said("equipment_failure CRITICAL")),
    ("failure inside a text", {"status": "relay failure 7"}, said("equipment_failure CRITICAL")),
    ("another status", {"status": "FAIL"}, said()),
    ("no status", {"status": None}, said()),
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
    # name, the reading, what differs from BASELINE (None: there is none), fires?
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


def judge(spark: SparkSession, readings: DataFrame, baselines: list[dict[str, Any]]) -> DataFrame:
    """Anomalies of readings that already have their topology."""
    known = frame(spark, BASELINES.schema, baselines, BASELINE)
    compared = attach_baseline(readings, known, max_age_s=DETECTION.baseline_max_age_s)
    return reading_anomalies(judge_readings(compared, detection=DETECTION))


@pytest.fixture(scope="module")
def found(spark: SparkSession) -> dict[int, list[Row]]:
    """Anomalies by number of the case; from 1,000 on the baseline cases, with meters of their own."""
    rows = [{**values, "kafka_offset": i} for i, (_, values, _) in enumerate(CASES)]
    rows += [{**values, "kafka_offset": 1000 + i, "meter_id": f"d{i}"} for i, (_, values, *_) in enumerate(DEVIATION)]
    baselines = [
        {
            **BASELINE,
            "meter_id": f"d{i}",
            **(changed if "meter_id" not in changed else {"meter_id": f"other{i}"}),
        }
        for i, (_, _, changed, _) in enumerate(DEVIATION)
        if changed is not None
    ]
    by_case: dict[int, list[Row]] = {}
    for row in judge(spark, placed_frame(spark, rows), baselines).collect():
        by_case.setdefault(row["source"]["offset"], []).append(row)
    return by_case


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name for name, *_ in CASES])
def test_limit(found: dict[int, list[Row]], number: int) -> None:
    anomalies = found.get(number, [])
    assert {(a["anomaly_type"], a["severity"]) for a in anomalies} == CASES[number][2]
    assert len(anomalies) == len(CASES[number][2])


@pytest.mark.parametrize("number", range(len(DEVIATION)), ids=[name for name, *_ in DEVIATION])
def test_deviation_from_the_last_closed_window(found: dict[int, list[Row]], number: int) -> None:
    deviations = [a for a in found.get(1000 + number, []) if a["anomaly_type"] == "voltage_deviation"]
    assert len(deviations) == DEVIATION[number][3]
    assert {a["severity"] for a in deviations} <= {"INFO"}, "an early flag opens no incident"


def test_deviation_carries_the_baseline_it_used(found: dict[int, list[Row]]) -> None:
    anomaly = next(a for a in found[1000] if a["anomaly_type"] == "voltage_deviation")
    assert anomaly["baseline"].asDict() == {
        "mean": 230.0,
        "std": 1.0,
        "n": 30,
        "windowStart": ms(-310),
        "windowEnd": ms(-10),
    }
    assert anomaly["deviation"] == pytest.approx(6.9)
    assert anomaly["threshold_used"] == pytest.approx(6.9)
    assert anomaly["score"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "limit", "deviation"),
    [
        ("undervoltage", 207.0, -7.0),
        ("overcurrent", 40.0, 30.0),
        ("over_temperature", 75.0, 20.0),
    ],
)
def test_limit_rule_states_its_limit_and_the_distance(
    found: dict[int, list[Row]], name: str, limit: float, deviation: float
) -> None:
    number = next(i for i, (case, *_) in enumerate(CASES) if case == "several rules at once")
    anomaly = next(a for a in found[number] if a["anomaly_type"] == name)
    assert (anomaly["threshold_used"], anomaly["deviation"]) == pytest.approx((limit, deviation))
    assert anomaly["observed"] == pytest.approx(limit + deviation)
    assert anomaly["score"] > 1
    assert "m1" in anomaly["message"]


@pytest.fixture(scope="module")
def published(spark: SparkSession) -> dict[str, Any]:
    """The published example, 280 V against 250 V, as the Kafka record that leaves."""
    readings = placed_frame(spark, [volts(280.0, kafka_offset=7, kafka_partition=3, status=None)])
    record = next(
        r
        for r in encode_anomalies(judge(spark, readings, [])).collect()
        if b"voltage_spike" in bytes(str(r["value"]), "utf-8")
    )
    return {"record": record, "event": json.loads(record["value"])}


def test_published_example_is_a_voltage_spike(published: dict[str, Any]) -> None:
    event = published["event"]
    assert (event["anomalyType"], event["severity"]) == ("voltage_spike", "WARNING")
    assert (event["thresholdUsed"], event["deviation"]) == (250.0, 30.0)
    assert event["originalEvent"] == {
        "meterId": "m1",
        "timestamp": ms(0),
        "voltage": 280.0,
        "current": 5.0,
        "temperature": 20.0,
        "status": None,
    }


def test_published_example_has_the_fields_of_the_contract_in_order(published: dict[str, Any]) -> None:
    event = published["event"]
    assert list(event) == [field.name for field in message("anomaly_event").fields]
    assert event["source"] == {"topic": "sensor-readings", "partition": 3, "offset": 7, "timestamp": ms(0)}
    assert (event["stage"], event["meterId"], event["feederId"], event["eventTime"]) == (
        "reading",
        "m1",
        "f1",
        ms(0),
    )
    assert event["baseline"] is None


def test_anomaly_record_has_the_meter_as_key_and_the_id_as_header(published: dict[str, Any]) -> None:
    record = published["record"]
    assert record["key"] == "m1"
    assert [(h["key"], bytes(h["value"]).decode()) for h in record["headers"]] == [
        ("anomaly-id", published["event"]["anomalyId"])
    ]


def test_anomaly_id_depends_on_meter_rule_and_event_time_only(spark: SparkSession) -> None:
    rows = [
        volts(280.0, kafka_offset=0),
        volts(281.0, kafka_offset=1, kafka_partition=2, feeder_id=None),  # the same anomaly, resent with another value
        volts(280.0, kafka_offset=2, meter_id="m2"),
        volts(280.0, kafka_offset=3, event_ts=at(0.001)),
    ]
    anomalies = judge(spark, placed_frame(spark, rows), []).collect()
    ids = {(a["source"]["offset"], a["anomaly_type"]): a["anomaly_id"] for a in anomalies}
    assert len(ids) == 8
    for kind in ("voltage_spike", "overvoltage"):
        assert ids[0, kind] == ids[1, kind]
    assert len(set(ids.values())) == 6
    assert all(len(i) == 64 for i in ids.values())


def test_anomaly_id_never_changes_between_releases(spark: SparkSession) -> None:
    """Consumers de-duplicate by it across restarts; sha256 of `reading|voltage_spike|meter|m1|<epoch ms>`."""
    anomalies = judge(spark, placed_frame(spark, [volts(251.0)]), []).collect()
    identity = f"reading|voltage_spike|meter|m1|{ms(0)}"
    assert [a["anomaly_id"] for a in anomalies] == [sha256(identity.encode()).hexdigest()]


def test_decoded_anomaly_equals_the_encoded_one(spark: SparkSession) -> None:
    readings = placed_frame(spark, [volts(280.0, status='"}{\n'), {"status": "Failure", "feeder_id": None}])
    sent = judge(spark, readings, [BASELINE]).persist()
    records = encode_anomalies(sent).select(
        F.col("value").cast("binary"),
        F.lit("anomalies").alias("topic"),
        F.lit(2).alias("partition"),
        F.lit(9).cast("long").alias("offset"),
        F.lit(NOON).alias("timestamp"),
    )
    back = {row["anomaly_id"]: row for row in decode_anomalies(records, ticks=TICKS, actions=ACTIONS).collect()}
    originals = sent.collect()
    sent.unpersist()
    assert len(back) == len(originals) == 4
    for original in originals:
        received = back[original["anomaly_id"]].asDict()
        assert {name: received[name] for name in original.asDict() if name != "detected_at"} == {
            name: value for name, value in original.asDict().items() if name != "detected_at"
        }
        assert isinstance(received["detected_at"], datetime)
        assert (received["kafka_partition"], received["kafka_offset"], received["kafka_ts"]) == (2, 9, NOON)


def test_record_that_is_no_anomaly_is_left_out(spark: SparkSession) -> None:
    values = [b"", b"{}", b"no json", b"[1]", b'{"anomalyId":"a","anomalyType":"t","severity":"INFO"}', None]
    rows = [
        (None if v is None else bytearray(v), topic, 0, i, NOON)
        for i, v in enumerate(values)
        for topic in ("anomalies", TICKS)
    ]
    schema = "value binary, topic string, partition int, offset long, timestamp timestamp"
    assert decode_anomalies(spark.createDataFrame(rows, schema), ticks=TICKS, actions=ACTIONS).collect() == []


def test_window_ends_come_from_the_topic_of_ticks_only(spark: SparkSession) -> None:
    rows = [(bytearray(b'{"windowEnd":%d}' % NOON_MS), topic, 0, 1, NOON) for topic in ("anomalies", TICKS)]
    schema = "value binary, topic string, partition int, offset long, timestamp timestamp"
    (row,) = decode_anomalies(spark.createDataFrame(rows, schema), ticks=TICKS, actions=ACTIONS).collect()
    assert (row["window_end"], row["anomaly_id"]) == (NOON, None)
