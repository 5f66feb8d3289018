"""Rows of meter_windows as stored and as computed again: what differs, and what may not."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import DataFrame, SparkSession

from pipelines.errors import DataRefused
from pipelines.jobs.recompute.retention import refuse_fewer_readings
from pipelines.jobs.recompute.window_changes import window_changes
from tests.factories import SILENT_WINDOW, settings, windows_frame


def rows(spark: SparkSession, *found: dict[str, Any]) -> DataFrame:
    return windows_frame(spark, found, window_s=900, placed=False)


def test_a_window_that_would_lose_readings_is_refused(spark: SparkSession) -> None:
    """
    end       0      180    360
    stored    15     15     0        readings of m1; those of the day before have been removed since
    again     -      14     1
    """
    before = rows(spark, {"end": 0, "n": 15}, {"end": 180, "n": 15}, {"end": 360, **SILENT_WINDOW})
    after = rows(spark, {"end": 180, "n": 14}, {"end": 360, "n": 1})
    kept = settings(lake={"retention_days": 30})
    with pytest.raises(DataRefused, match=r"2 windows .* 14 of the 15 .*retention_days = 30.* --from of 2026-03-02"):
        refuse_fewer_readings(kept, window_changes(before, after))
    refuse_fewer_readings(kept, window_changes(after, rows(spark, {"end": 180, "n": 15}, {"end": 360, "n": 1})))
