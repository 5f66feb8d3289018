"""Limits by class of meter: every rule of windows and feeders takes those of the row's meter."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from pipelines.settings import Detection, Limits, MeterClass
from pipelines.transforms.feeder_rules import feeder_findings
from pipelines.transforms.limits import RowLimits, class_limits, limits_of
from pipelines.transforms.readings import attach_meters
from pipelines.transforms.topology import compare_with_feeder
from pipelines.transforms.window_rules import window_findings
from tests.factories import at, by, meters_frame, placed_frame, settings, windows_frame

OWN: dict[str, Any] = {
    "undervoltage_pu": [0.95, 0.85, 0.70], "overvoltage_pu": [1.05, 1.15, 1.20], "interruption_pu": 0.2,
    "implausible_pu": 1.3, "plausible_temperature_c": [-10, 140], "over_temperature_c": [95, 110, 130],
    "overcurrent_pu": [0.8, 1.2, 1.5], "fixed_voltage_v": 240.0, "sustained_critical_pu": 0.88,
    "rise_c": 40.0, "noise_pu": 0.05, "min_deviation_pu": 0.06, "alone_deviation_pu": 0.08, "own_load_ohm": 0.0,
}  # fmt: skip
SETTINGS = settings(detection={"classes": {"own": OWN, "same": {}}})
DETECTION = SETTINGS.detection
COMMON = Detection()

NAMES = ("own", "same", "unheard-of", None)


def of_class(rows: DataFrame) -> DataFrame:
    """Rows with the limits of the class that their meter's id begins with, as `attach_meters` adds them."""
    own = {name: value for name, (value, _) in class_limits(DETECTION).items()}
    return rows.withColumn("meter_class", F.split_part("meter_id", F.lit("|"), F.lit(1))).withColumns(own)


def test_the_class_comes_from_the_table_of_meters(spark: SparkSession) -> None:
    meters = meters_frame(spark, [{"meter_id": "m1", "meter_class": "own"}, {"meter_id": "m2"}])
    readings = placed_frame(spark, [{"meter_id": name} for name in ("m1", "m2", "m3")]).drop(
        "feeder_id", "phase", "nominal_voltage_v", "rated_current_a"
    )
    rows = attach_meters(readings, meters, detection=DETECTION).collect()
    assert {row["meter_id"]: row["limit_rise_c"] for row in rows} == {"m1": 40.0, "m2": 20.0, "m3": 20.0}


WINDOWS: list[tuple[str, dict[str, Any], set[str], set[str]]] = [
    ("sustained", {"mean_v": 200.0, "min_v": 199.0, "tested_min_v": 199.0, "tested_out_ts": at(-30)},
     {"sustained_undervoltage CRITICAL"},
     {"sustained_undervoltage ERROR"}),
    ("rise", {"min_temperature_c": 20.0, "tested_max_temperature_c": 50.0}, set(), {"temperature_rise WARNING"}),
    ("deviation", {"tested_max_v": 245.0, "max_v": 245.0}, set(), {"voltage_deviation WARNING"}),
]  # fmt: skip


def test_a_window_is_judged_by_the_limits_of_its_class(spark: SparkSession) -> None:
    slides = [
        {**values, "meter_id": f"{name}|{case}", "feeder_id": None, "end": end}
        for case, values, *_ in WINDOWS
        for name in NAMES
        for end in (0, 300)
    ]
    rows = of_class(windows_frame(spark, slides))
    found = window_findings(rows, rows.limit(0), detection=DETECTION, incidents=SETTINGS.incidents)
    said: dict[str, set[str]] = {f"{name}|{case}": set() for case, *_ in WINDOWS for name in NAMES}
    for row in found.where(F.col("event_ts") == F.lit(at(300))).collect():
        if row["finding"]["severity"] != "INFO":
            said[row["meter_id"]].add(f"{row['finding']['anomaly_type']} {row['finding']['severity']}")
    for case, _, own, common in WINDOWS:
        assert said[f"own|{case}"] == own, case
        assert [said[f"{name}|{case}"] for name in NAMES[1:]] == [common] * 3, case


def test_a_feeder_counts_each_meter_by_the_limits_of_its_class(spark: SparkSession) -> None:
    low = {"tested_min_v": 215.0, "tested_out_ts": at(-30), "end": 0}
    rows = [{**low, "meter_id": f"{name}|{i}", "feeder_id": f"f-{name}"} for name in ("own", "same") for i in range(4)]
    found = feeder_findings(of_class(windows_frame(spark, rows)), detection=DETECTION).collect()
    assert [(row["feeder_id"], row["finding"]["anomaly_type"]) for row in found] == [("f-own", "feeder_undervoltage")]
    assert "4 of 4 reporting meters are below the band of their class at once" in found[0]["finding"]["message"]


def residuals(spark: SparkSession, rows: list[dict[str, Any]]) -> dict[Any, Row]:
    windows = windows_frame(spark, [{"end": 0, **row} for row in rows])
    return by(compare_with_feeder(of_class(windows), detection=DETECTION).collect(), "meter_id")


def test_a_transformer_is_compared_with_the_residential_meters_behind_it(spark: SparkSession) -> None:
    homes = [{"meter_id": f"m{i}", "tested_mean_v": 230.0, "tested_std_v": 0.46} for i in range(3)]
    large = {"meter_id": "own|t", "nominal_voltage_v": 400.0, "tested_mean_v": 420.0}
    found = residuals(spark, [*homes, {**large, "tested_std_v": 0.8}])
    assert found["own|t"]["residual_v"] == pytest.approx(20.0)
    assert found["own|t"]["feeder_std_v"] == pytest.approx(0.8)
    assert found["m0"]["residual_v"] == pytest.approx(0.0)


def test_without_classes_every_limit_is_a_number() -> None:
    limits = limits_of(COMMON)
    for name in RowLimits.__dataclass_fields__:
        value = getattr(limits, name)
        assert all(isinstance(one, float) for one in (value if isinstance(value, tuple) else (value,))), name


def test_every_setting_of_a_class_reaches_the_rules() -> None:
    """A limit that a class may have and no rule takes from it would be a promise that nobody keeps."""
    by_hand = {"fixed_voltage_v": "spike_pu", "nominal_voltage_v": None}
    wanted = {by_hand.get(name, name) for name in Limits.model_fields} - {None}
    assert wanted == set(RowLimits.__dataclass_fields__)
    assert set(MeterClass.model_fields) == {*Limits.model_fields, "rated_current_a"}
