"""DataFrames to Delta and Kafka, safe to repeat: a batch that runs twice leaves one copy in Delta."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from pipelines.settings import Settings
from pipelines.sources import kafka_client_options
from pipelines.tables import TABLES, Table, table_path


@dataclass(frozen=True)
class BatchId:
    """Identity of one micro-batch of one query, under one checkpoint generation."""

    generation: str
    query: str
    number: int

    def app_id(self, table: Table) -> str:
        """Delta transaction id: the same for every batch of the query, another for every generation."""
        return f"gridwatch/{self.generation}/{self.query}/{table.name}"


def append_once(rows: DataFrame, settings: Settings, table: Table, batch: BatchId) -> None:
    """Append a batch; a batch that Delta has already committed is skipped.

    When the process dies before the commit nothing is visible; after it, the replay is skipped.
    """
    _write(rows, settings, table, batch, mode="append")


def overwrite_once(rows: DataFrame, settings: Settings, table: Table, batch: BatchId) -> None:
    """Replace all rows of a table by a batch's; skipped when already committed."""
    _write(rows, settings, table, batch, mode="overwrite")


def _write(rows: DataFrame, settings: Settings, table: Table, batch: BatchId, *, mode: str) -> None:
    writer = rows.select(*table.column_names).write.format("delta").mode(mode)
    writer = writer.option("txnAppId", batch.app_id(table)).option("txnVersion", batch.number)
    writer.save(table_path(settings.lake.root, table.name))


def merge_by_id(rows: DataFrame, settings: Settings, table: Table, *, key: str, delete_column: str) -> None:
    """Insert or update by `key`, delete where `delete_column` is true; repeating it changes nothing."""
    spark = rows.sparkSession
    target = DeltaTable.forPath(spark, table_path(settings.lake.root, table.name))
    values = {name: f"new.{name}" for name in table.column_names}
    (
        target.alias("old")
        .merge(rows.alias("new"), f"old.{key} = new.{key}")
        .whenMatchedDelete(f"new.{delete_column}")
        .whenMatchedUpdate(set=values)
        .whenNotMatchedInsert(f"NOT new.{delete_column}", values=values)
        .execute()
    )


def send(records: DataFrame, settings: Settings, topic: str) -> None:
    """Send records (key, value and, if there, headers) to a topic, at least once."""
    writer = records.write.format("kafka").options(**kafka_client_options(settings.kafka)).option("topic", topic)
    if "headers" in records.columns:
        writer = writer.option("includeHeaders", "true")
    writer.save()


def create_tables(spark: SparkSession, settings: Settings) -> None:
    """Create every table that is not there yet, empty, so that each can be read before anything is written."""
    with ThreadPoolExecutor(max_workers=3) as pool:
        list(pool.map(lambda t: _create(spark, settings, t), TABLES.values()))


def _create(spark: SparkSession, settings: Settings, table: Table) -> None:
    path = table_path(settings.lake.root, table.name)
    if DeltaTable.isDeltaTable(spark, path):
        return
    builder = DeltaTable.createIfNotExists(spark).location(path).comment(table.grain)
    for column in table.columns:
        comment = f"{column.description} [{column.unit}]" if column.unit else column.description
        builder = builder.addColumn(column.name, column.type, comment=comment)
    builder.partitionedBy(*table.partition_by).execute()
