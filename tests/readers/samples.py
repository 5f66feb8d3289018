"""Rows for any table, made from the types of its columns: ordinary values, and those at which readers part ways."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T

from pipelines.lake_views import ITEM_COLUMNS
from pipelines.small_tables import as_arrow
from pipelines.tables import Table

_VALUES: dict[type[T.DataType], tuple[Any, ...]] = {
    T.StringType: ("meter", 'Zähler 12 °C, "quoted"\nsecond line', "", "☂ \\ '"),
    T.LongType: (0, -1, 2**63 - 1, -(2**63)),
    T.IntegerType: (0, -1, 2**31 - 1, -(2**31)),
    T.DoubleType: (230.1, -1.7e308, 5e-324, -0.5),
    T.BooleanType: (True, False),
    T.TimestampType: (
        datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # within the hour that clocks in Europe go through twice
    ),
    T.DateType: (date(2026, 3, 1), date(2026, 3, 2), date(2024, 2, 29)),
    T.BinaryType: (b"\x00\xff\xfe", b"", b"{"),
}


def rows(table: Table, first: int, count: int) -> pa.Table:
    """`count` different rows; in every fourth all columns are null but the first and those of the partition.

    A place in a record is never null: that means 0, and the product's DuckDB says so.
    """
    return as_arrow([_row(table, number) for number in range(first, first + count)], table)


def _row(table: Table, number: int) -> tuple[Any, ...]:
    is_null = number % 4 == 3
    kept = {table.column_names[0], *table.partition_by, ITEM_COLUMNS.get(table.name)}
    values = [
        None if is_null and c.name not in kept else _value(c.type, number + i) for i, c in enumerate(table.columns)
    ]
    if isinstance(table.columns[0].type, T.StringType):
        values[0] = f"{number}"
    return tuple(values)


def _value(kind: T.DataType, number: int) -> Any:
    if isinstance(kind, T.StructType):
        return {field.name: _value(field.dataType, number + i) for i, field in enumerate(kind.fields)}
    if isinstance(kind, T.ArrayType):
        return [_value(kind.elementType, number + i) for i in range(number % 3)]
    if isinstance(kind, T.MapType):
        return {f"reason {i}": _value(kind.valueType, number + i) for i in range(number % 3)}
    values = _VALUES[type(kind)]
    return values[number % len(values)]


def comparable(found: pa.Table) -> list[str]:
    """Rows whatever reader they came from, in one order: times in UTC, the pairs of a map sorted."""
    return sorted(repr({name: _plain(value) for name, value in row.items()}) for row in found.to_pylist())


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        inner = [_plain(item) for item in value]
        return sorted(inner) if inner and isinstance(inner[0], tuple) else inner
    return value
