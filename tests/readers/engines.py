"""Four readers of the lake: the rows of a table, and how many, each as its own users ask for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from deltalake import DeltaTable
from pyspark.sql import SparkSession

from pipelines.addresses import is_store
from pipelines.lake.store import storage_options
from pipelines.lake_sql import duckdb_path, open_lake
from pipelines.settings import Settings
from pipelines.sources import table as spark_table
from pipelines.store_tls import trust_in_this_process

NAMES = ("spark", "duckdb", "deltalake", "polars")


@dataclass(frozen=True)
class Engine:
    """One reader: both functions take a table's name, and raise whatever the reader raises."""

    name: str
    rows: Callable[[str], pa.Table]
    count: Callable[[str], int]
    """Rows that the reader finds in the table's files, not what the table's statistics say."""


def engines(settings: Settings, spark: SparkSession | None) -> dict[str, Engine]:
    """The readers over one lake, by name; Spark with a session only."""
    found = [_duckdb(settings), _deltalake(settings), _polars(settings)]
    return {engine.name: engine for engine in ([_spark(spark, settings)] if spark else []) + found}


def _spark(spark: SparkSession, settings: Settings) -> Engine:
    return Engine(
        "spark",
        rows=lambda name: spark_table(spark, settings, name).toArrow(),
        count=lambda name: spark_table(spark, settings, name).count(),
    )


def _duckdb(settings: Settings) -> Engine:
    def ask(query: str, name: str) -> pa.Table:
        with open_lake(settings, needed=[name]) as lake:
            return lake.execute(f"SELECT {query} FROM {name}").to_arrow_table()

    return Engine(
        "duckdb", rows=lambda name: ask("*", name), count=lambda name: ask("count(*) AS n", name)["n"][0].as_py()
    )


def _deltalake(settings: Settings) -> Engine:
    def opened(name: str) -> DeltaTable:
        return DeltaTable(duckdb_path(settings.lake.root, name), storage_options=_store_options(settings))

    def count(name: str) -> int:
        table = opened(name)
        batches = pa.RecordBatchReader.from_stream(table.scan(columns=[table.schema().fields[0].name]))
        return sum(batch.num_rows for batch in batches)

    return Engine("deltalake", rows=lambda name: opened(name).to_pyarrow_table(), count=count)


def _polars(settings: Settings) -> Engine:
    def scanned(name: str) -> pl.LazyFrame:
        return pl.scan_delta(duckdb_path(settings.lake.root, name), storage_options=_store_options(settings))

    return Engine(
        "polars",
        rows=lambda name: scanned(name).collect().to_arrow(),
        count=lambda name: int(scanned(name).select(pl.len()).collect().item()),
    )


def _store_options(settings: Settings) -> dict[str, str] | None:
    trust_in_this_process(settings.store)
    return storage_options(settings.store) if is_store(settings.lake.root) else None
