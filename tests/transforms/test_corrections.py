"""Which reading of several counts, and which window ends a late or corrected one may change."""

from __future__ import annotations

from typing import Any

from pyspark.sql import SparkSession

from pipelines.settings import Detection
from pipelines.transforms.corrections import LATE, affected_ends
from tests.factories import at, ms, readings_frame, windows_frame

DETECTION = Detection(cadence_s=60)
MINUTE, HOUR = 60, 3600
Rows = list[dict[str, Any]]


def counted(*minutes: int) -> Rows:
    """Rows of meter_windows, 15 min every 3 min, of readings at these minutes past noon; empty windows have no row."""
    rows: Rows = []
    for end in range(3, max(minutes) + 16, 3):
        inside = [minute for minute in minutes if end - 15 <= minute < end]
        if inside:
            rows.append({"end": end * MINUTE, "last": max(inside) * MINUTE, "n": len(inside)})
    return rows


def test_a_late_reading_changes_its_silence_up_to_the_meters_next_reading_and_what_looks_back_on_it(
    spark: SparkSession,
) -> None:
    """
    minute   -20 ... 0   1 ... 5                     300
    m1       counted     late      silence           counted: its row ends at 303, rules look back on it for 30
    """
    late = [{"event_ts": at(minute * MINUTE)} for minute in range(1, 6)]
    corrections = readings_frame(spark, late).selectExpr("*", f"'{LATE}' AS correction")
    windows = windows_frame(spark, counted(*range(-20, 1), 300), window_s=900, placed=False)
    found = affected_ends(corrections, windows, detection=DETECTION).collect()
    assert {(row["first_ms"], row["last_ms"]) for row in found} == {
        (ms(3 * MINUTE), ms(5 * HOUR + 33 * MINUTE)),
        (ms(6 * MINUTE), ms(5 * HOUR + 33 * MINUTE)),
    }
