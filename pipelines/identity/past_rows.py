"""What a new generation finds in the tables: where the windows read on, and rows that are to be read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS, arrow_schema, open_table, read_rows
from pipelines.tables import READINGS, REJECTED, Table


def first_version_since(settings: Settings, since: datetime) -> int:
    """First version of readings that has a reading with event time `since` or later; the newest without one.

    By halving: the largest event time of the table only grows from version to version.
    """
    table = open_table(settings, READINGS)
    low, high = 0, int(table.version())
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


def clean_version(settings: Settings, since: datetime) -> int | None:
    """`first_version_since`, when no row was deleted from there on; else None: read what the table holds now.

    A stream of versions brings the rows of a file that a later version has removed, and then those that replaced them.
    """
    version, table = first_version_since(settings, since), open_table(settings, READINGS)
    commits = table.history(int(table.version()) - version + 1)
    return None if any(commit["operation"] == "DELETE" for commit in commits) else version


def first_unaudited(settings: Settings, partitions: Iterable[int]) -> dict[int, int]:
    """First stored offset of each of these partitions, which audit does not know: their first batch crashed, or audit
    was lost. Partitions without a row are not named."""
    first: dict[int, int] = {}
    for partition in partitions:
        for table in (READINGS, REJECTED):
            found = open_table(settings, table).scan(columns=["kafka_offset"], predicate=_of(settings, partition))
            for batch in pa.RecordBatchReader.from_stream(found):
                if batch.num_rows:
                    low = pc.min(batch["kafka_offset"]).as_py()
                    first[partition] = min(first.get(partition, low), low)
    return first


def count_ahead(settings: Settings, table: Table, offsets: Mapping[int, int], there: Iterable[int]) -> int:
    """Rows at and behind the offsets that are read next: a crashed batch has stored them."""
    places = _ahead(settings, offsets, there)
    return sum(read_rows(settings, table, columns=["kafka_offset"], where=where).num_rows for where in places)


def delete_ahead(settings: Settings, table: Table, offsets: Mapping[int, int], there: Iterable[int]) -> None:
    """Delete the rows that `count_ahead` counts."""
    for where in _ahead(settings, offsets, there):
        open_table(settings, table).delete(where)


def _ahead(settings: Settings, offsets: Mapping[int, int], there: Iterable[int]) -> list[str]:
    return [f"{_of(settings, p)} AND kafka_offset >= {offsets.get(p, 0)}" for p in there]


def _of(settings: Settings, partition: int) -> str:
    topic = settings.kafka.topics.readings.replace("'", "''")
    return f"kafka_topic = '{topic}' AND kafka_partition = {partition}"


def empty_table(settings: Settings, table: Table) -> None:
    """No rows, and the columns of this version; earlier versions stay readable until VACUUM."""
    nothing = arrow_schema(table).empty_table()
    write_deltalake(open_table(settings, table), nothing, mode="overwrite", schema_mode="overwrite")
