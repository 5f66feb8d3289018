"""Rows of meter_windows as stored and as computed again: what differs, and what may not."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from pipelines.errors import DataRefused
from pipelines.offline.recompute.retention import refuse_fewer_readings
from pipelines.offline.recompute.window_changes import window_changes
from tests import frames
from tests.factories import SILENT_WINDOW, settings


def rows(*found: dict[str, Any]) -> pl.DataFrame:
    return frames.windows(found, window_s=900, placed=False)


def test_new_changed_and_gone_rows_are_told_apart_and_sums_in_another_order_are_no_change() -> None:
    before = rows({"end": 0, "mean_v": 230.0}, {"end": 180}, {"end": 360, "mean_v": None}, {"end": 540})
    after = rows({"end": 0, "mean_v": 230.0 + 1e-9}, {"end": 360, "mean_v": 231.0}, {"end": 540}, {"end": 720})
    found = window_changes(before, after)
    assert found["change"].to_list() == ["gone", "changed", "new"]
    changed = found.row(1, named=True)
    assert (json.loads(changed["now"])["mean_v"], "mean_v" in json.loads(changed["was"])) == (231.0, False)
    assert (found["was"].null_count(), found["now"].null_count()) == (1, 1)


def test_a_window_that_would_lose_readings_is_refused() -> None:
    """
    end       0      180    360
    stored    15     15     0        readings of m1; those of the day before have been removed since
    again     -      14     1
    """
    before = rows({"end": 0, "n": 15}, {"end": 180, "n": 15}, {"end": 360, **SILENT_WINDOW})
    after = rows({"end": 180, "n": 14}, {"end": 360, "n": 1})
    kept = settings(lake={"retention_days": 30})
    with pytest.raises(DataRefused, match=r"2 windows .* 14 of the 15 .*retention_days = 30.* --from of 2026-03-02"):
        refuse_fewer_readings(kept, window_changes(before, after))
    refuse_fewer_readings(kept, window_changes(after, rows({"end": 180, "n": 15}, {"end": 360, "n": 1})))
