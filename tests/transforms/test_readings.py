"""Readings in Spark: where their meters belong, plausible, in band."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from pipelines.settings import Settings
from pipelines.transforms.readings import attach_meters, flag_readings, is_plausible
from tests.factories import at, by, meters_frame, placed_frame, readings_frame

DETECTION = Settings().detection


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
