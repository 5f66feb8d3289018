"""Only what late and corrected readings concern is changed, whatever else a batch of today would say otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from pipelines.jobs.recompute.concern import Concern, concern_of
from pipelines.jobs.recompute.window_changes import window_changes
from pipelines.settings import Detection
from pipelines.transforms.corrections import CORRECTED, LATE
from tests.factories import anomalies_frame, at, meters_frame, windows_frame

DETECTION = Detection(cadence_s=60, min_reporting=0.5)
FEEDERS = {"m1": "f1", "m2": "f1", "m3": "f2"}
Rows = list[dict[str, Any]]


def windows(spark: SparkSession, *ends: float, **last: float) -> DataFrame:
    """Rows of all meters at these ends, the latest reading of each just before, or where it is said."""
    rows = [{"meter_id": m, "end": end, "last": last.get(m, end - 60)} for end in ends for m in FEEDERS]
    return windows_frame(spark, rows, window_s=900, placed=False)


def concern(spark: SparkSession, correction: str, before: DataFrame, after: DataFrame) -> Concern:
    """Of one reading of m1."""
    meters = meters_frame(spark, [{"meter_id": m, "feeder_id": f} for m, f in FEEDERS.items()])
    corrected = spark.createDataFrame([("m1", correction)], "meter_id string, correction string")
    return concern_of(corrected, before, after, meters, detection=DETECTION)


@pytest.fixture(scope="module")
def anomalies(spark: SparkSession) -> DataFrame:
    rows: Rows = [
        {"anomaly_id": f"{m} {kind}", "t": 0, "meter_id": m, "feeder_id": f, "anomaly_type": kind, "stage": "window"}
        for m, f in FEEDERS.items()
        for kind in ("noisy_sensor", "meter_silent")
    ]
    outages = {"t": 0, "meter_id": None, "anomaly_type": "feeder_outage", "stage": "feeder"}
    rows += [{"anomaly_id": f, "feeder_id": f, **outages} for f in ("f1", "f2")]
    return anomalies_frame(spark, rows)


OWN = {"m1 noisy_sensor", "m1 meter_silent", "m2 noisy_sensor", "m2 meter_silent", "f1"}


def ids(found: DataFrame) -> set[str]:
    return {row["anomaly_id"] for row in found.collect()}


def test_a_correction_changes_its_meter_and_the_feeder_and_no_one_else(
    spark: SparkSession, anomalies: DataFrame
) -> None:
    stored = windows(spark, 180, 360)
    again = stored.selectExpr("* EXCEPT (residual_v)", "1.0D AS residual_v").select(stored.columns)
    found = concern(spark, CORRECTED, stored, again)
    assert {row["meter_id"] for row in found.windows(window_changes(stored, again)).collect()} == {"m1", "m2"}
    assert ids(found.anomalies(anomalies)) == OWN


@pytest.mark.parametrize(("correction", "others"), [(LATE, {"m3 meter_silent", "f2"}), (CORRECTED, set())])
def test_late_readings_decide_on_the_silence_of_others_where_they_wake_the_fleet(
    spark: SparkSession, anomalies: DataFrame, correction: str, others: set[str]
) -> None:
    """
    last reading of   m1            m2    m3
    stored            -1 h          -1 h  now     a third reports: nobody is called silent
    with late ones    a minute ago  -1 h  now     two thirds do: a silence is a meter's own
    """
    stored, again = windows(spark, 180, m1=-3600, m2=-3600), windows(spark, 180, m2=-3600)
    found = concern(spark, correction, stored, again)
    assert ids(found.anomalies(anomalies)) == OWN | others


def test_late_readings_that_wake_nobody_change_no_silence_of_others(spark: SparkSession, anomalies: DataFrame) -> None:
    found = concern(spark, LATE, windows(spark, 180, m1=-3600), windows(spark, 180))
    assert ids(found.anomalies(anomalies)) == OWN


def test_a_window_end_that_only_late_readings_make_has_rows_of_the_whole_fleet(spark: SparkSession) -> None:
    stored, again = windows(spark, 180), windows(spark, 180, 360, m2=0, m3=0)
    found = concern(spark, LATE, stored, again)
    ends = [(row["meter_id"], row["window_end"]) for row in found.windows(window_changes(stored, again)).collect()]
    assert [end for end in ends if end[0] == "m3"] == [("m3", at(360))]
