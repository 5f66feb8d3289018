"""DataFrames to Delta and Kafka, safe to repeat: a batch that runs twice leaves one copy in Delta."""

from __future__ import annotations

from dataclasses import dataclass

from pyspark.sql import DataFrame

from pipelines.settings import Settings
from pipelines.tables import Table, table_path
from pipelines.write_times import timed


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
    writer = rows.select(*table.column_names).write.format("delta").mode("append")
    writer = writer.option("txnAppId", batch.app_id(table)).option("txnVersion", batch.number)
    with timed("delta", table.name):
        writer.save(table_path(settings.lake.root, table.name))
