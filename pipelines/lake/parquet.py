"""Data files of a table: written as Parquet, with what Delta must know of them to commit them."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from io import BytesIO
from typing import Any

import obstore
import polars as pl

from pipelines.tables import Table


@dataclass(frozen=True)
class DataFile:
    """A data file of a table, whether a version names it yet or not."""

    path: str
    """Relative to the table."""
    size: int
    partition: str | None
    """Value of the column that the table is partitioned by."""
    statistics: str
    """As Delta's log has them: JSON with numRecords, minValues, maxValues, nullCount."""
    written_ms: int
    """Epoch ms."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> DataFile:
        """From the fields of one, as JSON gives them."""
        return cls(**document)

    @property
    def rows(self) -> int:
        """Rows in the file."""
        return int(json.loads(self.statistics)["numRecords"])


def write_data_file(rows: pl.DataFrame, table: Table, objects: Any) -> DataFile:
    """Write rows of one partition of a table to a new file of it.

    In: the columns of the table, in any order; `objects` is the place of the tables, as `object_store` gives it. The
    file has a name of its own and counts for nothing before a version names it: a process that dies here leaves a
    file for VACUUM.
    """
    name = f"part-{uuid.uuid4()}.zstd.parquet"
    value = None
    if table.partition_by:
        (column,) = table.partition_by
        value = str(rows[column][0])
        name = f"{column}={value}/{name}"
    stored = rows.select(c for c in table.column_names if c not in table.partition_by)
    content = BytesIO()
    stored.write_parquet(content, compression="zstd", compression_level=1)
    obstore.put(objects, f"{table.name}/{name}", content.getvalue())
    size, now_ms = content.tell(), time.time_ns() // 1_000_000
    return DataFile(name, size, value, _statistics(stored, table), now_ms)


def _statistics(rows: pl.DataFrame, table: Table) -> str:
    columns = [name for name in table.skip_by if name in rows.columns]
    lows, highs = (rows.select(getattr(pl.col(columns), end)()).row(0, named=True) for end in ("min", "max"))
    return json.dumps(
        {
            "numRecords": rows.height,
            "minValues": {name: _as_json(value) for name, value in lows.items() if value is not None},
            "maxValues": {name: _as_json(value) for name, value in highs.items() if value is not None},
            "nullCount": {name: rows[name].null_count() for name in columns},
        }
    )


def _as_json(value: Any) -> Any:
    """A value as Delta's statistics have it; times of ours are whole milliseconds, all that statistics keep."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return value.isoformat() if isinstance(value, date) else value
