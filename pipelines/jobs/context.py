"""What every query of one run shares: session, settings, and the identity of the checkpoint."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.errors import DataRefused
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import highest_value, read_rows
from pipelines.sources import table
from pipelines.tables import AUDIT, METER_WINDOWS

RUN_RECORD = "gridwatch-run.json"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline job."""

    spark: SparkSession
    settings: Settings
    generation: str
    say: Say
    metrics: PipelineMetrics = field(default_factory=PipelineMetrics)
    """Filled always, served only by the job."""

    @cached_property
    def meters(self) -> DataFrame:
        """The table meters, kept in memory: it changes only before the queries start."""
        return self.table("meters").persist()

    def batch(self, query: str, number: int) -> BatchId:
        """Identity of a micro-batch."""
        return BatchId(self.generation, query, number)

    def table(self, name: str) -> DataFrame:
        """Newest version of a table."""
        return table(self.spark, self.settings, name)

    def latest_window_end(self, *, before: datetime | None) -> datetime | None:
        """Latest window end in the table meter_windows, or the latest one before a moment (UTC)."""
        highest: datetime | None = highest_value(self.settings, METER_WINDOWS, "window_end")
        if highest is None or before is None or highest < before:
            return highest
        earlier = self.table("meter_windows").where(F.col("window_end") < F.lit(before))
        latest: datetime | None = earlier.agg(F.max("window_end")).head()[0]  # type: ignore[index]
        return latest.replace(tzinfo=UTC) if latest else None

    def checkpoint(self, query: str) -> str:
        """Checkpoint folder of a query."""
        return checkpoint_path(self.settings, query)


def identify_run(spark: SparkSession, settings: Settings) -> str:
    """Generation of the checkpoint: read beside it, or made on the very first start.

    Raises DataRefused when the tables hold batches but the checkpoint is gone: going on would read the topic
    again and store every reading twice.
    """
    path = checkpoint_path(settings, RUN_RECORD)
    file_system, hadoop_path = hadoop_file(spark, path)
    if file_system.exists(hadoop_path):
        return str(json.loads(read_text(spark, file_system, hadoop_path))["generation"])
    if read_rows(settings, AUDIT, columns=["batch_id"]).num_rows:
        raise DataRefused(
            f"{settings.lake.root} holds archived batches, but {path} is missing: restore the checkpoint, or point"
            " lake.root and pipeline.checkpoint at empty places"
        )
    generation = uuid.uuid4().hex
    write_text(file_system, hadoop_path, json.dumps({"generation": generation}))
    return generation


def checkpoint_path(settings: Settings, name: str) -> str:
    """A file or folder below `pipeline.checkpoint`."""
    return f"{settings.pipeline.checkpoint.rstrip('/')}/{name}"


def hadoop_file(spark: SparkSession, path: str) -> tuple[Any, Any]:
    """Hadoop's file system of a path, and the path: a checkpoint may lie in an object store."""
    jvm: Any = spark.sparkContext._jvm
    hadoop_path = jvm.org.apache.hadoop.fs.Path(path)
    return hadoop_path.getFileSystem(spark.sparkContext._jsc.hadoopConfiguration()), hadoop_path


def read_text(spark: SparkSession, file_system: Any, path: Any) -> str:
    """The text of a file of `hadoop_file`."""
    jvm: Any = spark.sparkContext._jvm
    stream = file_system.open(path)
    try:
        return str(jvm.org.apache.commons.io.IOUtils.toString(stream, "UTF-8"))
    finally:
        stream.close()


def write_text(file_system: Any, path: Any, text: str) -> None:
    """Write a new file of `hadoop_file`; an existing one is an error."""
    stream = file_system.create(path, False)
    stream.write(bytearray(text.encode()))
    stream.close()
