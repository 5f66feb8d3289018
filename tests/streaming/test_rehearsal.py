"""The rehearsed hand-over plans what the alerts job will plan, and never harms it."""

from __future__ import annotations

import pytest
from pyspark.sql import DataFrame, SparkSession

from pipelines.jobs import alerts
from pipelines.jobs.rehearsal import ROUNDS, Rehearsal, write_code
from pipelines.settings import Settings
from pipelines.small_tables import as_arrow
from pipelines.tables import BASELINES, METERS
from tests.factories import KAFKA_SCHEMA, NOON, at


def alerts_over(spark: SparkSession, records: DataFrame) -> DataFrame:
    """The plan of the alerts job."""
    meters = as_arrow([("m", "f", "t", "A", 230.0, 60.0, None, None)], METERS)
    baselines = as_arrow([("m", at(0), at(300), 9, 230.0, 1.0, None)], BASELINES)
    return alerts.build(
        records,
        meters=spark.createDataFrame(meters), baselines=spark.createDataFrame(baselines), settings=Settings(),
    )  # fmt: skip


def test_the_code_over_no_rows_is_the_code_over_records(spark: SparkSession) -> None:
    none = write_code(alerts_over(spark, spark.createDataFrame([], KAFKA_SCHEMA)))
    some = [(b"m", bytearray(b"{}"), "sensor-readings", 0, 1, NOON)]
    assert none == write_code(alerts_over(spark, spark.createDataFrame(some, KAFKA_SCHEMA)))
    assert any("HashedRelation" in code for code in none)


def test_all_rounds_are_over_after_the_first_batch(spark: SparkSession, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, built, written, told = [0.0], [], [], list[str]()
    monkeypatch.setattr("pipelines.jobs.pace.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("pipelines.jobs.rehearsal.write_code", lambda frame: written.append(clock[0]))

    def build() -> DataFrame:
        built.append(clock[0])
        return spark.range(1)

    rehearsal = Rehearsal(build, 60, told.append)
    for second in range(200):
        clock[0] = float(second)
        rehearsal.step()
    assert written == [10.0, 20.0, 30.0, 40.0, 50.0]
    assert len(written) == ROUNDS
    assert (built, told) == ([10.0], [])


def test_a_rehearsal_that_fails_is_told_and_is_the_last_one(spark: SparkSession) -> None:
    told: list[str] = []
    rehearsal = Rehearsal(lambda: spark.range(1).select("nothing"), 0, told.append)
    for _ in range(3):
        rehearsal.step()
    assert len(told) == 1
    assert "nothing" in told[0]
