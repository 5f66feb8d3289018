"""What the archive decides of an accepted reading, once and for all: late, re-sent, plausible, in band."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.jobs.batch_facts import BatchFacts
from pipelines.jobs.recent_keys import RecentKeys
from pipelines.settings import Settings
from pipelines.transforms.readings import attach_meters, flag_readings, is_plausible, mark_late, mark_resent
from tests.factories import at, by, meters_frame, ms, placed_frame, readings_frame

DETECTION = Settings().detection
Batch = list[dict[str, Any]]


def test_reading_at_the_horizon_is_not_late(spark: SparkSession) -> None:
    """
    horizon = 0 s (largest earlier event time) - 10 s (watermark)
    -10.001 s late | -10 s in time | 0 s | 3600 s
    """
    rows = [{"event_ts": at(t), "kafka_offset": i} for i, t in enumerate((-10.001, -10, 0, 3600))]
    marked = mark_late(readings_frame(spark, rows), highest_before_ms=ms(0), watermark_s=10)
    assert [row["is_late"] for row in marked.orderBy("kafka_offset").collect()] == [True, False, False, False]


def test_nothing_is_late_in_the_first_batch(spark: SparkSession) -> None:
    """However far apart its readings are: nothing was accepted before."""
    rows = [{"event_ts": at(t)} for t in (-86_400, 0)]
    marked = mark_late(readings_frame(spark, rows), highest_before_ms=None, watermark_s=10)
    assert {row["is_late"] for row in marked.collect()} == {False}


def test_rejected_record_without_event_time_is_not_late(spark: SparkSession) -> None:
    marked = mark_late(readings_frame(spark, [{"event_ts": None}]), highest_before_ms=ms(0), watermark_s=10)
    assert [row["is_late"] for row in marked.collect()] == [False]


def as_judged(spark: SparkSession, batch: Batch) -> DataFrame:
    """A batch as `archive.judge` leaves it, all accepted."""
    nothing = {name: F.lit(None).cast("binary") for name in ("key", "value", "reason", "findings")}
    return readings_frame(spark, batch).drop("is_resent").withColumns(nothing)


def resent_of(spark: SparkSession, batches: list[Batch]) -> list[set[tuple[int, int]]]:
    """(partition, offset) of the readings that each batch finds re-sent, deciding as the archive does."""
    keys, found = RecentKeys(), []
    for batch in batches:
        judged = as_judged(spark, batch)
        now = BatchFacts.collect(judged).keys()
        positions = [(int(p),) for p in keys.find_resent(*now)]
        frame = spark.createDataFrame(positions, "position bigint") if positions else None
        rows = mark_resent(judged, frame).collect()
        assert len(rows) == len(batch), "marking drops and doubles nothing"
        found.append({(r["kafka_partition"], r["kafka_offset"]) for r in rows if r["is_resent"]})
        keys.add(*now[:2])
    return found


def r(offset: int, t: float = 0, meter: str = "m1", partition: int = 0) -> dict[str, Any]:
    """A reading at an offset."""
    return {"kafka_offset": offset, "event_ts": at(t), "meter_id": meter, "kafka_partition": partition}


RESENT: dict[str, tuple[list[Batch], list[set[tuple[int, int]]]]] = {
    "nothing is repeated": ([[r(0), r(1, 10), r(2, 0, "m2")]], [set()]),
    "the lowest offset of a batch is the reading": ([[r(7), r(3), r(5, 10)]], [{(0, 7)}]),
    "three times the same make two re-sent": ([[r(2), r(0), r(1)]], [{(0, 1), (0, 2)}]),
    "an earlier batch has it": ([[r(0)], [r(1), r(2, 10)]], [set(), {(0, 1)}]),
    "an earlier batch has it, whatever the offsets": ([[r(9)], [r(1)]], [set(), {(0, 1)}]),
    "twice in a batch after it was in an earlier one": ([[r(0)], [r(1), r(2)]], [set(), {(0, 1), (0, 2)}]),
    "batch after batch": ([[r(0)], [r(1)], [r(2)]], [set(), {(0, 1)}, {(0, 2)}]),
    "a millisecond apart is another reading": ([[r(0), r(1, 0.001)], [r(2, 0.002)]], [set(), set()]),
    "another meter is another reading": ([[r(0), r(1, 0, "m2")], [r(2, 0, "m3")]], [set(), set()]),
    "the partition goes before the offset": ([[r(5, partition=1), r(9, partition=0)]], [{(1, 5)}]),
    "across the edge of a minute": (
        [[r(0, 59.999), r(1, 60)], [r(2, 60), r(3, 59.999)]],
        [set(), {(0, 2), (0, 3)}],
    ),
}


@pytest.mark.parametrize("name", list(RESENT))
def test_resent(spark: SparkSession, name: str) -> None:
    batches, expected = RESENT[name]
    assert resent_of(spark, batches) == expected


def test_forgotten_reading_is_new_again(spark: SparkSession) -> None:
    """Beyond the horizon a reading is not recognised; within it, it is, to the whole minute."""
    keys = RecentKeys()
    first = BatchFacts.collect(as_judged(spark, [r(0, 30), r(1, 90)])).keys()
    keys.add(*first[:2])
    keys.forget_before(ms(60))
    again = BatchFacts.collect(as_judged(spark, [r(2, 30), r(3, 90)])).keys()
    assert keys.find_resent(*again).tolist() == [3]


FLAGS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    # what differs from a normal reading -> plausible, in band
    "normal": ({}, True, True),
    "207 V, the lower limit": ({"voltage_v": 207.0}, True, True),
    "206.9 V": ({"voltage_v": 206.9}, True, False),
    "253 V, the upper limit": ({"voltage_v": 253.0}, True, True),
    "253.1 V": ({"voltage_v": 253.1}, True, False),
    "0 V": ({"voltage_v": 0.0}, True, False),
    "-0.1 V, the noise of a dead line": ({"voltage_v": -0.1}, True, False),
    "-1 V": ({"voltage_v": -1.0}, False, False),
    "345 V, the plausible limit": ({"voltage_v": 345.0}, True, False),
    "345.1 V": ({"voltage_v": 345.1}, False, False),
    "0 A": ({"current_a": 0.0}, True, True),
    "-0.1 A": ({"current_a": -0.1}, False, False),
    "far more than the rated current": ({"current_a": 5000.0}, True, True),
    "-40 °C, the lower limit": ({"temperature_c": -40.0}, True, True),
    "-40.1 °C": ({"temperature_c": -40.1}, False, False),
    "150 °C, the upper limit": ({"temperature_c": 150.0}, True, True),
    "150.1 °C": ({"temperature_c": 150.1}, False, False),
    "120 V at a 120 V meter": ({"voltage_v": 120.0, "nominal_voltage_v": 120.0}, True, True),
    "230 V at a 120 V meter": ({"voltage_v": 230.0, "nominal_voltage_v": 120.0}, False, False),
}


@pytest.fixture(scope="module")
def flagged(spark: SparkSession) -> dict[Any, Any]:
    """The flags of every case."""
    rows = [{**values, "meter_id": name} for name, (values, _, _) in FLAGS.items()]
    readings = placed_frame(spark, rows).drop("is_plausible", "is_in_band")
    both = flag_readings(readings, detection=DETECTION).withColumn("alone", is_plausible(DETECTION))
    return by(both.collect(), "meter_id")


@pytest.mark.parametrize("name", list(FLAGS))
def test_flags(flagged: dict[Any, Any], name: str) -> None:
    row = flagged[name]
    assert (row["is_plausible"], row["is_in_band"]) == FLAGS[name][1:]
    assert row["alone"] == row["is_plausible"]


def test_meter_gets_its_topology_and_an_unknown_one_the_defaults(spark: SparkSession) -> None:
    """A meter known without a nominal voltage has the default one too; every reading stays, once."""
    meters = meters_frame(
        spark,
        [
            {"meter_id": "known", "feeder_id": "f9", "nominal_voltage_v": 120.0, "rated_current_a": 63.0},
            {"meter_id": "bare", "feeder_id": None, "nominal_voltage_v": None, "rated_current_a": None},
        ],
    )
    readings = readings_frame(
        spark, [{"meter_id": m, "event_ts": at(0)} for m in ("known", "known", "bare", "unknown")]
    )
    rows = attach_meters(readings, meters, detection=DETECTION).collect()
    assert sorted((x["meter_id"], x["feeder_id"], x["nominal_voltage_v"], x["rated_current_a"]) for x in rows) == [
        ("bare", None, 230.0, None),
        ("known", "f9", 120.0, 63.0),
        ("known", "f9", 120.0, 63.0),
        ("unknown", None, 230.0, None),
    ]
