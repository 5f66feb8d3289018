"""Kafka, Delta and files to DataFrames."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from pyspark.sql import DataFrame, SparkSession

from pipelines.kafka_options import kafka_client_options
from pipelines.settings import Settings
from pipelines.tables import table_path

_STREAM_BYTES = "64m"
"""About a million rows of numbers: what a micro-batch over a backlog may hold in the driver."""


def kafka_stream(
    spark: SparkSession,
    settings: Settings,
    topics: list[str],
    *,
    starting: str | Mapping[int, int],
    max_offsets: int | None = None,
) -> DataFrame:
    """Stream of committed Kafka records; stops with an error when offsets it still needs are gone
    (`failOnDataLoss`). Records of aborted transactions do not come.

    `starting`: earliest, latest, an ISO time, or for a single topic the offset of every partition; used by the first
    start only, later ones go by the checkpoint.
    """
    reader = spark.readStream.format("kafka").options(**kafka_client_options(settings.kafka))
    reader = reader.option("kafka.isolation.level", "read_committed")
    reader = reader.option("subscribe", ",".join(topics)).option("failOnDataLoss", "true")
    if not isinstance(starting, str):
        offsets = {topics[0]: {str(partition): offset for partition, offset in starting.items()}}
        reader = reader.option("startingOffsets", json.dumps(offsets))
    elif starting in ("earliest", "latest"):
        reader = reader.option("startingOffsets", starting)
    else:
        at = datetime.fromisoformat(starting)
        reader = reader.option("startingTimestamp", str(int(at.timestamp() * 1000)))
        reader = reader.option("startingOffsetsByTimestampStrategy", "latest")
    if max_offsets:
        reader = reader.option("maxOffsetsPerTrigger", max_offsets)
    return reader.load()


def table(spark: SparkSession, settings: Settings, name: str) -> DataFrame:
    """The newest version of a table."""
    return spark.read.format("delta").load(table_path(settings.lake.root, name))


def table_stream(
    spark: SparkSession, settings: Settings, name: str, *, since_version: int, max_files: int = 1000
) -> DataFrame:
    """Stream of the rows that a table gets from a version on, in the order of its commits.

    Whole files may be deleted meanwhile; a commit that changes a file stops the stream. A micro-batch ends at
    `max_files`, or with the file that passes `_STREAM_BYTES`.
    """
    reader = spark.readStream.format("delta").option("startingVersion", since_version).option("ignoreDeletes", "true")
    reader = reader.option("maxFilesPerTrigger", max_files).option("maxBytesPerTrigger", _STREAM_BYTES)
    return reader.load(table_path(settings.lake.root, name))
