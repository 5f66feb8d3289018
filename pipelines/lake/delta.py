"""Data files that others have written, made part of a table in one commit, once per batch."""

from __future__ import annotations

from collections.abc import Sequence

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from pipelines.lake.parquet import DataFile
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import open_table
from pipelines.tables import Table
from pipelines.write_times import timed


def commit_files(settings: Settings, table: Table, files: Sequence[DataFile], batch: BatchId) -> bool:
    """Make the files of a batch part of a table; False for a batch that the table has already, which is skipped.

    Whether it has is asked of the very snapshot that commits: from an older one the library refuses the batch, from a
    newer one it would add the files once more. Raises what the Delta library does.
    """
    app_id = batch.app_id(table)
    target = open_table(settings, table)
    if _has(target, app_id, batch.number):
        return False
    commit = CommitProperties(app_transactions=[Transaction(app_id, batch.number)])
    added: list[AddAction | RemoveAction] = [_added(file, table) for file in files]
    try:
        with timed("delta", table.name):
            target.create_write_transaction(
                added, "append", target.schema(), list(table.partition_by) or None, commit_properties=commit
            )
    except CommitFailedError:
        # When the reply to a commit is lost the library sends it again, and meets its own commit.
        if not _has(open_table(settings, table), app_id, batch.number):
            raise
    return True


def _has(target: DeltaTable, app_id: str, number: int) -> bool:
    done = target.transaction_version(app_id)
    return done is not None and done >= number


def _added(file: DataFile, table: Table) -> AddAction:
    values = dict.fromkeys(table.partition_by, file.partition)
    return AddAction(file.path, file.size, values, file.written_ms, True, file.statistics)
