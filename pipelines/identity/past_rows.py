"""What a new generation finds in the tables: where the windows read on, and rows that are to be read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import pyarrow as pa
from deltalake import write_deltalake

from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS, arrow_schema, open_table, read_rows
from pipelines.tables import READINGS, Table


def first_version_since(settings: Settings, since: datetime) -> int | None:
    """First version of readings that has a reading with event time `since` or later; None without one.

    By halving: the largest event time of the table only grows from version to version.
    """
    table = open_table(settings, READINGS)
    low, high = 0, int(table.version())
    if not _has_since(settings, high, since):
        return None
    while low < high:
        middle = (low + high) // 2
        if _has_since(settings, middle, since):
            high = middle
        else:
            low = middle + 1
    return low


def _has_since(settings: Settings, version: int, since: datetime) -> bool:
    """Whether a version has such a reading; a version whose log is gone counts as too early."""
    table = open_table(settings, READINGS)
    try:
        table.load_as_version(version)
        files = pa.table(table.get_add_actions(flatten=True))
    except STORE_ERRORS:
        return False
    moments = [at for at in files["max.event_ts"].to_pylist() if at] if files.num_rows else []
    return any(at >= since for at in moments)


def delete_ahead(settings: Settings, table: Table, offsets: Mapping[int, int], there: Iterable[int]) -> int:
    """Delete the rows at and behind the offsets that are read next; returns how many."""
    taken = 0
    for partition in there:
        where = f"kafka_partition = {partition} AND kafka_offset >= {offsets.get(partition, 0)}"
        ahead = read_rows(settings, table, columns=["kafka_offset"], where=where).num_rows
        if ahead:
            open_table(settings, table).delete(where)
            taken += ahead
    return taken


def empty_table(settings: Settings, table: Table) -> None:
    """No rows, and the columns of this version; earlier versions stay readable until VACUUM."""
    nothing = arrow_schema(table).empty_table()
    write_deltalake(open_table(settings, table), nothing, mode="overwrite", schema_mode="overwrite")
