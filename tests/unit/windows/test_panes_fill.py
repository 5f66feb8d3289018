"""A new generation's panes from readings: those that count, once each, in order of time, whatever dies meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from pipelines.readings.held import still_held
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, open_table
from pipelines.tables import AUDIT, PANES, READINGS
from pipelines.windows import fill
from pipelines.windows.fill import ensure_filled, held_panes
from tests.older_lakes import GENERATION, append, at, audited, filled, minutes, older_lake, reading, run_of


def settings_in(folder: Path) -> Settings:
    places = {"lake": {"root": str(folder / "lake")}, "pipeline": {"checkpoint": str(folder / "checkpoint")}}
    return Settings.model_validate(places)


@pytest.fixture
def lake(tmp_path: Path) -> Settings:
    return older_lake(settings_in(tmp_path))


def test_readings_that_count_become_panes_and_what_aligned_time_has_not_reached_is_held(lake: Settings) -> None:
    """The pane that ends at 530 is later than 480; the one that holds 480 has its last reading at 530 too."""
    held = ensure_filled(run_of(lake))
    assert filled(lake) == minutes(*range(8))
    keeper = held_panes(lake, "generation-2/held")
    later = keeper.release(held, after_ms=None, up_to_ms=round(at(600).timestamp() * 1000))
    assert dict(later.select("pane_start", "n").iter_rows()) == minutes(8, 9)


def test_a_generation_that_goes_on_fills_from_its_first_open_window(lake: Settings) -> None:
    ensure_filled(run_of(lake, readings_since=at(240)))
    assert filled(lake) == minutes(4, 5, 6, 7)


def test_an_older_lake_has_no_aligned_time_and_holds_nothing_back(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    create_tables(settings)
    append(settings, READINGS, [reading(second) for second in range(0, 120, 10)], 0)
    append(settings, AUDIT, [audited(110, None)], 0)
    assert ensure_filled(run_of(settings)) == []
    assert filled(settings) == minutes(0, 1)


def test_a_new_lake_needs_no_fill(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    create_tables(settings)
    assert ensure_filled(run_of(settings)) == []
    assert open_table(settings, PANES).version() == 0


def test_spans_are_commits_in_order_of_time(lake: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the windows' watermark passes panes that are still to come."""
    monkeypatch.setattr(fill, "SPAN_READINGS", 13)
    ensure_filled(run_of(lake))
    ends = []
    for version in range(1, open_table(lake, PANES).version() + 1):
        table = open_table(lake, PANES)
        table.load_as_version(version)
        ends.append(max(table.to_pyarrow_table()["pane_start"].to_pylist()))
    assert ends == [at(60), at(180), at(300), at(420), at(420)]
    assert filled(lake) == minutes(*range(8))


@pytest.mark.parametrize("dies_at", range(1, 12))
def test_wherever_it_dies_it_is_repaired_by_doing_it_again(
    lake: Settings, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """Before a file, a commit or a held file is written; the next attempt would choose other spans."""
    steps = 0

    def dying(name: str) -> None:
        real = getattr(fill, name)

        def step(*args: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == dies_at:
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(fill, name, step)

    monkeypatch.setattr(fill, "SPAN_READINGS", 13)
    for name in ("write_data_file", "commit_files", "split_panes"):
        dying(name)
    try:
        ensure_filled(run_of(lake))
    except KeyboardInterrupt:
        monkeypatch.setattr(fill, "SPAN_READINGS", 30)
        ensure_filled(run_of(lake))
    assert filled(lake) == minutes(*range(8))
    held = ensure_filled(run_of(lake))
    assert sum(file.rows for file in still_held(held, None)) == 2


def test_what_is_done_is_not_done_again(lake: Settings) -> None:
    """The archive has gone on since: its readings are in panes of its own."""
    held = ensure_filled(run_of(lake))
    append(lake, READINGS, [reading(700)], 2)
    assert ensure_filled(run_of(lake)) == held
    assert filled(lake) == minutes(*range(8))
    note = json.loads((Path(lake.pipeline.checkpoint) / "generation-2/panes-fill.json").read_text())
    assert [file["name"] for file in note["held"]] == [file.name for file in held]


def test_the_statistics_of_a_filled_file_name_its_generation(lake: Settings) -> None:
    """By them old panes are deleted as whole files."""
    ensure_filled(run_of(lake))
    files = pl.DataFrame(open_table(lake, PANES).get_add_actions(flatten=True))
    assert files["min.generation"].to_list() == [GENERATION]
    assert files["max.batch_id"].to_list() == [-1]
