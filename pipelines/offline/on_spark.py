"""`--engine spark`: the same functions by groups of feeders on the cluster of `pipeline.master`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import polars as pl
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema, to_arrow_schema
from pyspark.sql.types import StructType

from pipelines.session import build_session, end_jvm
from pipelines.settings import Settings
from pipelines.small_tables import Say, read_rows
from pipelines.sources import table
from pipelines.tables import METERS, Table

GROUP_METERS = 20_000
"""Meters of a group, about: a task holds all readings of one group and time range."""
PER_CORE = 2

Function = Callable[[Any, pl.DataFrame], pl.DataFrame]
"""Of what all groups share, and the rows of one."""


class Cluster:
    """Tables of a lake by groups of whole feeders; meters without a feeder are spread over the groups by their id."""

    def __init__(self, spark: SparkSession, settings: Settings) -> None:
        self._spark, self._settings = spark, settings
        self.meters = pl.DataFrame(read_rows(settings, METERS))
        cores = spark.sparkContext.defaultParallelism
        self.groups = max(PER_CORE * cores, self.meters.height // GROUP_METERS + 1)

    def rows(self, of: Table, where: str, columns: list[str]) -> DataFrame:
        """Rows of a table with a meter_id, and their `feeders`, the number of the group."""
        placed = table(self._spark, self._settings, METERS.name).select("meter_id", "feeder_id")
        wanted = table(self._spark, self._settings, of.name).where(where).select(columns)
        home = F.coalesce("feeder_id", "meter_id")
        grouped = wanted.join(F.broadcast(placed), "meter_id", "left")
        return grouped.select(*columns, F.pmod(F.xxhash64(home), F.lit(self.groups)).alias("feeders"))

    def by_group(self, rows: DataFrame, function: Function, shared: object, schema: Mapping[str, Any]) -> pl.DataFrame:
        """What a function makes of the rows of each group, all together, in the columns of `schema`. It runs on the
        workers: nothing that is shared may be a secret."""
        there = self._spark.sparkContext.broadcast(shared)

        def run(group: pa.Table) -> pa.Table:
            return _as_arrow(function(there.value, _frame(group)), schema)

        return _in(pl.DataFrame(rows.groupBy("feeders").applyInArrow(run, _in_spark(schema)).toArrow()), schema)

    def by_groups(
        self,
        rows: DataFrame,
        others: DataFrame,
        function: Callable[[Any, pl.DataFrame, pl.DataFrame], pl.DataFrame],
        shared: object,
        schema: Mapping[str, Any],
    ) -> pl.DataFrame:
        """The same of the rows of two tables."""
        there = self._spark.sparkContext.broadcast(shared)

        def run(group: pa.Table, other: pa.Table) -> pa.Table:
            return _as_arrow(function(there.value, _frame(group), _frame(other)), schema)

        both = rows.groupBy("feeders").cogroup(others.groupBy("feeders"))
        return _in(pl.DataFrame(both.applyInArrow(run, _in_spark(schema)).toArrow()), schema)

    def slides(self, rows: DataFrame, slide_s: float) -> list[int]:
        """Starts (epoch ms) of the slides that have a countable reading, of READING's rows."""
        slide_ms = round(slide_s * 1000)
        start = F.floor(F.unix_millis("event_ts") / slide_ms) * slide_ms
        found = rows.where("NOT is_late AND NOT is_resent").select(start.cast("long").alias("start")).distinct()
        return [row.start for row in found.collect()]


def _in(made: pl.DataFrame, schema: Mapping[str, Any]) -> pl.DataFrame:
    return made.select(pl.col(name).cast(kind) for name, kind in schema.items())


def _as_arrow(made: pl.DataFrame, schema: Mapping[str, Any]) -> pa.Table:
    """In the types that Spark has for it: none of Arrow's large ones."""
    return _in(made, schema).to_arrow().cast(to_arrow_schema(_in_spark(schema), timezone="UTC"))


def _frame(group: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(group.drop_columns("feeders"))


def _in_spark(schema: Mapping[str, Any]) -> StructType:
    return from_arrow_schema(pl.DataFrame(schema=dict(schema)).to_arrow(compat_level=pl.CompatLevel.oldest()).schema)


@contextmanager
def cluster(settings: Settings, say: Say) -> Iterator[Cluster]:
    """A session for the block."""
    spark: Any = build_session(settings, app_name="gridwatch offline")
    try:
        found = Cluster(spark, settings)
        say(f"{found.meters.height:,} meters in {found.groups} groups of feeders at {settings.pipeline.master}")
        yield found
    finally:
        end_jvm(spark)
