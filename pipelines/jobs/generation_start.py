"""How the queries of a later generation begin: behind what the tables hold, with nothing twice and nothing missing."""

from __future__ import annotations

import polars as pl
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.broker.records import send_records
from pipelines.identity.tables import noted_start
from pipelines.jobs.context import Run
from pipelines.readings.letters import letters
from pipelines.small_tables import scan_rows
from pipelines.tables import REJECTED
from pipelines.topics import topic_offsets

EARLIEST = -2
"""What Spark's Kafka source calls the first offset that is there."""


def first_offsets(run: Run) -> str | dict[int, int]:
    """Where the archive's very first batch begins: at the noted start, or behind the tables in a later generation.

    Partitions that neither knows are read from their start. Where Kafka has nothing before the noted start, what
    comes first is read: retention may take it meanwhile.
    """
    there = topic_offsets(run.settings.kafka, run.settings.kafka.topics.readings)
    if run.start.offsets is not None:
        return {partition: run.start.offsets.get(partition, EARLIEST) for partition in there}
    noted = noted_start(run.settings)
    if noted is None:  # a run without Kafka's first start: benchmarks
        return run.settings.pipeline.starting
    return {p: noted[p] if p in noted and noted[p] > first else EARLIEST for p, (first, _) in there.items()}


def only_new_windows(run: Run, closed: DataFrame) -> DataFrame:
    """The closed windows without those that meter_windows held when the generation began."""
    after = run.start.windows_after
    return closed if after is None else closed.where(F.col("window_end") > F.lit(after))


def resend_dead_letters(run: Run) -> None:
    """Send the letters of the newest stored batch again: a crash may have kept them back. Consumers see repeats."""
    settings = run.settings
    behind = [f"(kafka_partition = {p} AND kafka_offset >= {first})" for p, first in run.start.resend.items()]
    rows = (pl.DataFrame(piece) for where in behind for piece in scan_rows(settings, REJECTED, where=where))
    send_records(settings.kafka, settings.kafka.topics.dead_letters, letters(rows))
