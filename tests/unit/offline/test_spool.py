"""Rows put aside by parts come back part by part, in the order in which they came."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipelines.offline.spool import Spool
from pipelines.offline.survey import Survey


@pytest.mark.parametrize("parts", [1, 3])
def test_rows_come_back_by_part_and_in_order(tmp_path: Path, parts: int) -> None:
    with Spool(tmp_path / "spool", parts) as spool:
        for first in (0, 4):
            rows = pl.DataFrame({"value": range(first, first + 4)})
            spool.add(rows, rows["value"] % 2 if parts > 1 else rows["value"] * 0)
        taken = [spool.take(number) for number in range(parts)]
    found = [None if rows is None else rows["value"].to_list() for rows in taken]
    assert found == ([[0, 2, 4, 6], [1, 3, 5, 7], None] if parts > 1 else [list(range(8))])
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_has_left_is_not_taken_for_new(tmp_path: Path) -> None:
    killed = Spool(tmp_path / "spool", 2)
    killed.add(pl.DataFrame({"value": [1]}), pl.Series([1]))
    with Spool(tmp_path / "spool", 2) as spool:
        assert spool.take(1) is None


def test_parts_begin_at_slides_and_hold_about_as_many_readings() -> None:
    found = Survey(by_time=pl.DataFrame({"bin": range(100), "len": [10] * 100}))
    edges = found.edges_ms(60.0, 250)
    assert edges == [240_000, 480_000, 720_000, 960_000]
