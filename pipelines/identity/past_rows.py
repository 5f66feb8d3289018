"""What a new generation finds in the tables: rows that are to be read again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake

from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, open_table, read_rows
from pipelines.tables import READINGS, REJECTED, Table


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
