"""Panes are deleted as whole files when they are old, and never rewritten: the windows stream them by file."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from pipelines import upkeep
from pipelines.lake.delta import commit_files
from pipelines.lake.parquet import write_data_file
from pipelines.lake.store import object_store
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import create_tables, open_table, read_rows
from pipelines.tables import PANES
from pipelines.upkeep import look_after
from pipelines.windows.panes import empty_panes

DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    upkeep._vacuumed_at.clear()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    places = {"lake": {"root": str(tmp_path / "lake")}, "pipeline": {"checkpoint": str(tmp_path / "checkpoint")}}
    made = Settings.model_validate(places)
    create_tables(made)
    return made


def add(settings: Settings, generation: str, batch: int, *, days_old: float, number: int | None = None) -> None:
    """A file of three panes, written so long ago."""
    rows = pl.DataFrame({"meter_id": ["a", "b", "c"], "n": 1}, schema_overrides={"n": pl.Int64})
    panes = pl.concat([empty_panes(), rows], how="diagonal").with_columns(
        pl.lit(generation).alias("generation"), pl.lit(batch, pl.Int64).alias("batch_id")
    )
    file = write_data_file(panes, PANES, object_store(settings.lake.root, settings.store))
    written_ms = round((time.time() - days_old * DAY_S) * 1000)
    identity = BatchId(generation, "archive", batch if number is None else number)
    commit_files(settings, PANES, [replace(file, written_ms=written_ms)], identity)


def batches(settings: Settings) -> list[tuple[str, int]]:
    rows = read_rows(settings, PANES, columns=["generation", "batch_id"]).to_pylist()
    assert all(rows.count(row) == 3 for row in rows)
    return sorted({(row["generation"], row["batch_id"]) for row in rows})


def test_panes_older_than_two_days_go_with_their_files(settings: Settings) -> None:
    add(settings, "old", 7, days_old=9)
    for batch, days_old in ((-1, 5), (0, 4), (1, 3), (2, 1.9), (3, 0)):
        add(settings, "new", batch, days_old=days_old, number=batch + 1)
    done = look_after(settings, PANES)
    assert batches(settings) == [("new", 2), ("new", 3)]
    assert (done.expired_files, done.files) == (4, 2)
    (delete,) = [commit for commit in open_table(settings, PANES).history() if commit["operation"] == "DELETE"]
    assert int(delete["operationMetrics"].get("num_added_files", 0)) == 0, "a part of a file stops the stream"


def test_young_panes_stay_and_many_small_files_are_not_made_one(settings: Settings) -> None:
    for batch in range(51):
        add(settings, "new", batch, days_old=1)
    done = look_after(settings, PANES, thorough=True)
    assert (done.files, done.compacted_files, done.expired_files) == (51, 0, 0)


def test_an_empty_table_is_looked_after(settings: Settings) -> None:
    assert look_after(settings, PANES).files == 0
