"""The same for rows of meter_windows, by Spark: a fleet has too many of them for the driver."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from pipelines.jobs.recompute.changes import CHANGED, DIGITS, GONE, NEW, TOLERANCE
from pipelines.tables import METER_WINDOWS

KEY = ("meter_id", "window_end")


def window_changes(before: DataFrame, after: DataFrame) -> DataFrame:
    """The rows that differ: the columns of meter_windows as they are to be (as they were, when gone), `change`, and
    both as JSON in `was` and `now`, null where there is none."""
    old = before.select(*KEY, F.struct(*METER_WINDOWS.column_names).alias("old"))
    new = after.select(*KEY, F.struct(*METER_WINDOWS.column_names).alias("new"))
    both = old.join(new, list(KEY), "full")
    differ = reduce(Column.__or__, [~_same(c.name, c.type) for c in METER_WINDOWS.columns])
    change = F.when(F.col("old").isNull(), NEW).when(F.col("new").isNull(), GONE).when(differ, CHANGED)
    found = both.withColumn("change", change).where(F.col("change").isNotNull())
    row = F.coalesce("new", "old")
    return found.select(
        *(row[name].alias(name) for name in METER_WINDOWS.column_names),
        "change",
        _as_json("old").alias("was"),
        _as_json("new").alias("now"),
    )


def _same(name: str, kind: T.DataType) -> Column:
    one, other = F.col("old")[name], F.col("new")[name]
    if not isinstance(kind, T.DoubleType):
        return one.eqNullSafe(other)
    within = F.abs(one - other) <= F.greatest(F.lit(TOLERANCE), F.abs(one) * 1e-9)
    return F.coalesce(within, one.isNull() & other.isNull())


def _as_json(side: str) -> Column:
    """A row as `changes.as_json` writes it: nulls left out."""
    columns = [_plain(F.col(side)[c.name], c.type).alias(c.name) for c in METER_WINDOWS.columns]
    return F.when(F.col(side).isNotNull(), F.to_json(F.struct(*columns)))


def _plain(value: Column, kind: T.DataType) -> Column:
    if isinstance(kind, T.TimestampType):
        return F.unix_millis(value)
    return F.round(value, DIGITS) if isinstance(kind, T.DoubleType) else value
