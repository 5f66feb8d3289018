"""Rows of a table as Polars frames."""

from __future__ import annotations

from functools import cache

import polars as pl
from pyspark.sql.pandas.types import to_arrow_schema

from pipelines.tables import Table


def as_declared(rows: pl.DataFrame, table: Table) -> pl.DataFrame:
    """The columns of a table, in its order and types: a missing one is null, any other is dropped."""
    names = set(rows.columns)
    return rows.select(
        (pl.col(name).cast(kind) if name in names else pl.lit(None, kind).alias(name))
        for name, kind in schema_of(table).items()
    )


def empty(table: Table) -> pl.DataFrame:
    """No rows of a table."""
    return pl.DataFrame(schema=schema_of(table))


@cache
def schema_of(table: Table) -> pl.Schema:
    """The Polars types of a table's columns; timestamps are UTC microseconds."""
    return pl.DataFrame(to_arrow_schema(table.schema, timezone="UTC").empty_table()).schema
