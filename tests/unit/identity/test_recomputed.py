"""Windows that begin anew are without what recomputes had put in: a new generation says what to run again."""

from __future__ import annotations

import shlex
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli.main import build_parser
from pipelines.identity import generation
from pipelines.identity.recomputed import merged, recomputed_ranges
from pipelines.sinks import BatchId
from pipelines.small_tables import count_rows, create_tables
from pipelines.tables import METER_WINDOWS, RECOMPUTATIONS
from tests.unit.identity.lakes import NOON, Lake, settings_in

HOUR = timedelta(hours=1)


def hours(*pairs: tuple[int, int]) -> list[tuple[datetime, datetime]]:
    return [(NOON + first * HOUR, NOON + last * HOUR) for first, last in pairs]


def note(lake: Lake, run_id: str, first: int, last: int, *, ended: bool = True) -> None:
    """What a recompute from `first` to `last` hours behind noon leaves, with one changed window."""
    ((since, until),) = hours((first, last))
    names = ["meter_windows", *(["run"] if ended else [])]
    rows = [{"run_id": run_id, "at": until, "since": since, "until": until, "table_name": name} for name in names]
    lake.add(RECOMPUTATIONS, rows, BatchId(run_id, "recompute", 0))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Windows, and three recomputes of which two overlap and one died."""
    lake = Lake(settings_in(tmp_path)).make()
    lake.window(NOON)
    note(lake, "third", 5, 6, ended=False)
    note(lake, "first", 0, 2)
    note(lake, "second", 1, 3)
    return lake


def begin(lake: Lake, monkeypatch: pytest.MonkeyPatch, *, rebuild: bool) -> list[str]:
    """Begin a generation at the end of the tables; returns what was said behind where it begins."""
    said = list[str]()
    monkeypatch.setattr(generation, "gather", lambda settings: lake.facts())
    options: dict[str, Any] = {"why": "", "rebuild": rebuild, "say": said.append}
    generation._begin(lake.settings, {0: 30}, {0: (0, 40)}, [], **options)
    return said[said.index("generation 2 begins at offset 30 of partition 0") + 1 :]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], []),
        ([(5, 6), (0, 2), (1, 3)], [(0, 3), (5, 6)]),
        ([(0, 9), (1, 2), (8, 10)], [(0, 10)]),
        ([(0, 1), (1, 2), (0, 1)], [(0, 1), (1, 2)]),
    ],
)
def test_overlapping_ranges_are_one_and_touching_ones_are_not(
    ranges: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    assert merged(hours(*ranges)) == hours(*expected)


def test_the_ranges_of_all_runs_are_found_also_of_one_that_died(lake: Lake) -> None:
    assert recomputed_ranges(lake.settings) == hours((0, 3), (5, 6))


def test_a_rebuild_says_which_recomputes_to_run_again(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    why, *lines = begin(lake, monkeypatch, rebuild=True)
    assert count_rows(lake.settings, METER_WINDOWS) == 0
    assert "without what `gridwatch recompute` had put in" in why
    assert lines == [
        "  gridwatch recompute --from 2026-03-01T12:00:00 --to 2026-03-01T15:00:00",
        "  gridwatch recompute --from 2026-03-01T17:00:00 --to 2026-03-01T18:00:00",
    ]
    asked = [build_parser().parse_args(shlex.split(line)[1:]) for line in lines]
    assert [(args.from_ts, args.to_ts) for args in asked] == recomputed_ranges(lake.settings)


def test_lost_windows_are_computed_anew_as_well(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(Path(lake.settings.lake.root) / METER_WINDOWS.name)
    create_tables(lake.settings)
    assert len(begin(lake, monkeypatch, rebuild=False)) == 3


def test_windows_that_are_kept_and_a_lake_without_recomputes_say_nothing(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert begin(lake, monkeypatch, rebuild=False) == []
    plain = Lake(settings_in(tmp_path / "plain")).make()
    plain.window(NOON)
    assert begin(plain, monkeypatch, rebuild=True) == []
