"""The profile of a day: where a meter lies against its feeder, less the windows in which it did not measure that."""

from __future__ import annotations

from typing import Any

import pytest
from pyspark.sql import SparkSession

from pipelines.transforms.daily_profiles import daily_profiles
from pipelines.transforms.window_rules.measures import measure
from tests.factories import settings, windows_frame

DETECTION = settings(detection={"cadence_s": 900}).detection
ENDS = range(-43_200, 43_200, int(DETECTION.slide_s))
STUCK = dict.fromkeys(("mean_v", "min_v", "max_v"), 236.0)
DAYS: dict[str, tuple[list[tuple[int, float, dict[str, Any]]], float | None]] = {
    # name, (slides, distance to the feeder, what else the windows are), offset
    "an ordinary day": ([(16, -1.0, {}), (16, 1.0, {})], 0.0),
    "stuck for a part of it": ([(9, -1.0, {}), (9, 1.0, {}), (14, 6.0, STUCK)], 0.0),
    "stuck for most of it": ([(12, 1.0, {}), (20, 6.0, STUCK)], None),
    "a step of a few slides": ([(15, -1.0, {}), (14, 1.0, {}), (3, 9.0, {})], -1.0),
    "a step for most of it": ([(12, 1.0, {}), (20, 9.0, {})], None),
}


@pytest.fixture(scope="module")
def offsets(spark: SparkSession) -> dict[str, float | None]:
    """residual_offset_v of each day, as a meter of its own."""
    rows = []
    for name, (parts, _) in DAYS.items():
        values = [(distance, more) for count, distance, more in parts for _ in range(count)]
        rows += [
            {"meter_id": name, "end": end, "residual_v": distance, **more}
            for end, (distance, more) in zip(ENDS, values, strict=True)
        ]
    frame = windows_frame(spark, rows, window_s=DETECTION.window_s, n=15, plausible_n=15, base_n=12)
    measured = measure(frame, frame.limit(0), detection=DETECTION)
    return {r["meter_id"]: r["residual_offset_v"] for r in daily_profiles(measured, detection=DETECTION).collect()}


@pytest.mark.parametrize("name", list(DAYS))
def test_offset_against_the_feeder(offsets: dict[str, float | None], name: str) -> None:
    assert offsets[name] == DAYS[name][1]
