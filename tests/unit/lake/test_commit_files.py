"""Files that workers wrote become part of a table once per batch, and readers can skip them by their statistics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from pipelines.lake import delta
from pipelines.lake.delta import commit_files
from pipelines.lake.parquet import DataFile, write_data_file
from pipelines.lake.store import object_store
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import count_rows, create_tables, highest_value, open_table, read_rows
from pipelines.tables import READINGS
from tests.factories import NOON


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(made, [READINGS])
    return made


def file_of(settings: Settings, *offsets: int) -> DataFile:
    rows = dict.fromkeys(READINGS.column_names) | {"event_ts": NOON, "event_date": NOON.date()}
    frame = pl.DataFrame([rows | {"kafka_offset": offset, "kafka_partition": 0} for offset in offsets])
    types = {"kafka_offset": pl.Int64, "kafka_partition": pl.Int32, "event_ts": pl.Datetime("us", "UTC")}
    return write_data_file(frame.cast(types), READINGS, object_store(settings.lake.root, settings.store))


def batch(number: int) -> BatchId:
    return BatchId("generation", "archive", number)


def test_a_batch_that_is_committed_again_is_skipped(settings: Settings) -> None:
    assert commit_files(settings, READINGS, [file_of(settings, 1, 2), file_of(settings, 3)], batch(0))
    assert not commit_files(settings, READINGS, [file_of(settings, 1, 2)], batch(0))
    assert count_rows(settings, READINGS) == 3
    assert read_rows(settings, READINGS)["kafka_offset"].to_pylist() == [1, 2, 3]


def test_readers_know_what_a_file_holds_without_opening_it(settings: Settings) -> None:
    commit_files(settings, READINGS, [file_of(settings, 5, 9)], batch(0))
    assert highest_value(settings, READINGS, "kafka_offset") == 9
    assert highest_value(settings, READINGS, "event_ts").timestamp() == NOON.timestamp()


def test_a_commit_whose_reply_was_lost_counts_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library sends it again, meets its own commit, and says that it failed."""
    target = open_table(settings, READINGS)
    monkeypatch.setattr(delta, "open_table", lambda *_: _Deaf(target, settings))
    assert commit_files(settings, READINGS, [file_of(settings, 1)], batch(0))
    monkeypatch.undo()
    assert count_rows(settings, READINGS) == 1


def test_a_batch_that_another_writer_commits_meanwhile_is_not_added(settings: Settings) -> None:
    old = open_table(settings, READINGS)
    commit_files(settings, READINGS, [file_of(settings, 1)], batch(3))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta, "open_table", lambda *_: old)
        with pytest.raises(CommitFailedError):
            commit_files(settings, READINGS, [file_of(settings, 1)], batch(4))
    assert count_rows(settings, READINGS) == 1


class _Deaf:
    """A table whose first commit arrives and is answered with a failure."""

    def __init__(self, table: DeltaTable, settings: Settings) -> None:
        self._table, self._settings = table, settings

    def transaction_version(self, app_id: str) -> int | None:
        return open_table(self._settings, READINGS).transaction_version(app_id)

    def schema(self) -> Any:
        return self._table.schema()

    def create_write_transaction(self, *args: Any, **options: Any) -> None:
        self._table.create_write_transaction(*args, **options)
        raise CommitFailedError("Concurrent transaction failed")
