"""The profile of a day: where a meter lies against its feeder, less the windows in which it did not measure that."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.lake.frames import as_declared, empty
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.tables import METER_WINDOWS, METERS
from pipelines.windows.judge import no_history
from pipelines.windows.look_around import look_around
from pipelines.windows.look_back import look_back
from pipelines.windows.profiles import profile_rows, profiles_of
from tests.factories import settings, utc

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


ORDINARY = {
    "n": 15, "base_n": 12, "base_mean_v": 230.0, "base_std_v": 0.5, "tested_n": 6, "tested_mean_v": 230.0,
    "tested_std_v": 0.5, "tested_min_v": 229.5, "tested_max_v": 230.5, "plausible_n": 15, "mean_v": 230.0, "std_v": 0.5,
    "min_v": 229.0, "max_v": 231.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def offsets() -> dict[str, float | None]:
    """residual_offset_v of each day, as a meter of its own."""
    rows = []
    for name, (parts, _) in DAYS.items():
        values = [(distance, more) for count, distance, more in parts for _ in range(count)]
        rows += [
            ORDINARY | {"meter_id": name, "window_end": utc(end), "last_event_ts": utc(end - 1)}
            | {"window_date": utc(end).date(), "residual_v": distance, **more}
            for end, (distance, more) in zip(ENDS, values, strict=True)
        ]  # fmt: skip
    windows = as_declared(pl.DataFrame(rows, infer_schema_length=None), METER_WINDOWS)
    placed = attach_meters(windows, placed_meters(empty(METERS), detection=DETECTION), detection=DETECTION)
    measured = look_around(look_back(placed, no_history(), detection=DETECTION), detection=DETECTION)
    profiles = profiles_of(profile_rows(measured, detection=DETECTION), detection=DETECTION)
    return dict(profiles.select("meter_id", "residual_offset_v").rows())


@pytest.mark.parametrize("name", list(DAYS))
def test_offset_against_the_feeder(offsets: dict[str, float | None], name: str) -> None:
    assert offsets[name] == DAYS[name][1]
