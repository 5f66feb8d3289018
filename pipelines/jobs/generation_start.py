"""How the queries of a later generation begin: behind what the tables hold, with nothing twice and nothing missing."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.broker.records import send_records
from pipelines.jobs.context import Run
from pipelines.readings.letters import letters
from pipelines.settings import REALTIME
from pipelines.small_tables import scan_rows
from pipelines.tables import REJECTED
from pipelines.topics import topic_offsets

EARLIEST = -2
"""What Spark's Kafka source calls the first offset that is there."""


def first_offsets(run: Run) -> str | dict[int, int]:
    """Where the archive's very first batch begins: `pipeline.starting`, or behind the tables in a later generation.

    Partitions that the tables do not know are read from their start.
    """
    if run.start.offsets is None:
        return run.settings.pipeline.starting
    there = topic_offsets(run.settings.kafka, run.settings.kafka.topics.readings)
    return {partition: run.start.offsets.get(partition, EARLIEST) for partition in there}


def only_new_windows(run: Run, closed: DataFrame) -> DataFrame:
    """The closed windows without those that meter_windows held when the generation began."""
    after = run.start.windows_after
    return closed if after is None else closed.where(F.col("window_end") > F.lit(after))


def is_at_or_behind(offsets: Mapping[int, int]) -> Column:
    """Whether a stored record lies at or behind the given offsets; all of a partition that is not named."""
    partition, offset = F.col("kafka_partition"), F.col("kafka_offset")
    behind = ~partition.isin(list(offsets)) if offsets else F.lit(True)
    for number, first in offsets.items():
        behind = behind | ((partition == number) & (offset >= first))
    return behind


def resend_dead_letters(run: Run) -> None:
    """Send the letters of the newest stored batch again: a crash may have kept them back. Consumers see repeats."""
    settings = run.settings
    behind = [f"(kafka_partition = {p} AND kafka_offset >= {first})" for p, first in run.start.resend.items()]
    rows = (pl.DataFrame(piece) for where in behind for piece in scan_rows(settings, REJECTED, where=where))
    send_records(settings.kafka, settings.kafka.topics.dead_letters, letters(rows))


def must_resend(run: Run) -> bool:
    """Whether the archive itself publishes anomalies and has to repeat the last of an earlier generation."""
    return bool(run.start.resend) and run.settings.alerts.mode != REALTIME
