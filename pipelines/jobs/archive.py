"""Query archive: every record of the topic into `readings` or `rejected`, decided once, counted in `audit`."""

from __future__ import annotations

import time

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.identity.tables import Ownership
from pipelines.jobs.archive_past import Past, recall
from pipelines.jobs.batch_facts import BatchFacts
from pipelines.jobs.context import Run
from pipelines.jobs.generation_start import first_offsets
from pipelines.jobs.recent_keys import Longs
from pipelines.observe.batches import count_archive
from pipelines.settings import Settings
from pipelines.sinks import BatchId, append_once, send
from pipelines.small_tables import append_rows_once, arrow_schema, as_arrow
from pipelines.sources import kafka_stream
from pipelines.tables import AUDIT, READINGS, REJECTED
from pipelines.transforms.checks import name_rejections
from pipelines.transforms.dead_letters import as_dead_letters, as_rejected_table
from pipelines.transforms.decode import decode_readings
from pipelines.transforms.reading_rules import attach_baseline, judge_readings
from pipelines.transforms.readings import (
    accepted,
    as_readings_table,
    attach_meters,
    flag_readings,
    mark_late,
    mark_resent,
    type_readings,
)

QUERY = "archive"

REJECTED_IN_DRIVER_BYTES = 32 * 1024 * 1024
"""Up to this size the rejected records of a batch pass through the driver, which saves a Spark job; more never do."""


def build(records: DataFrame, *, meters: DataFrame, settings: Settings) -> DataFrame:
    """The plan of the stream: Kafka records to typed readings with reasons and flags.

    Parses once, keeps no state, drops nothing.
    """
    decoded = decode_readings(records, fields=settings.input.fields)
    checked = name_rejections(decoded, max_skew_s=settings.input.max_skew, max_age_s=settings.input.max_age)
    return place(type_readings(checked), meters, settings=settings)


def place(typed: DataFrame, meters: DataFrame, *, settings: Settings) -> DataFrame:
    """Adds what is known of the meter, and the flags."""
    return flag_readings(attach_meters(typed, meters, detection=settings.detection), detection=settings.detection)


def judge(flagged: DataFrame, baselines: DataFrame, *, settings: Settings) -> DataFrame:
    """Adds the findings of the reading rules; `baselines` as they are at the batch."""
    compared = attach_baseline(flagged, baselines, max_age_s=settings.detection.baseline_max_age_s)
    return judge_readings(compared, detection=settings.detection)


def start_archive(run: Run) -> StreamingQuery:
    """Start the query; the first start reads from the noted start, later ones from the checkpoint."""
    settings = run.settings
    records = kafka_stream(
        run.spark,
        settings,
        [settings.kafka.topics.readings],
        starting=first_offsets(run),
        max_offsets=settings.pipeline.max_offsets_per_trigger,
    )
    flagged = build(records, meters=run.meters, settings=settings)
    writer = flagged.writeStream.queryName(QUERY).foreachBatch(ArchiveBatch(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(QUERY))
    return writer.trigger(processingTime=f"{settings.pipeline.archive_trigger} seconds").start()


class ArchiveBatch:
    """Writes one batch: Delta first, Kafka last, and Kafka also when Delta has the batch already.

    What a verdict needs of earlier batches (largest event time, recent keys) is kept in memory and read back from
    the tables after a start, so a replay decides the same.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._past: Past | None = None
        self._ownership = Ownership(run.settings, run.generation)

    def write(self, flagged: DataFrame, number: int) -> None:
        """Sink of the stream. A crash at any line is repaired by the replay of the batch."""
        batch = self._run.batch(QUERY, number)
        self._ownership.require()
        past = self._past = self._past or recall(self._run, batch)
        watermark_s = self._run.settings.detection.watermark
        kept = flagged.persist()
        try:
            # Behind the cache: the limit is a constant of the generated code, which is then compiled at each batch.
            marked = mark_late(kept, highest_before_ms=past.highest_ms, watermark_s=watermark_s)
            facts = BatchFacts.collect(marked)
            if facts.count:
                self._write_batch(marked, facts, past.keys.find_resent(*facts.keys()), batch)
                past.take_in(facts)
        finally:
            kept.unpersist()
        self._run.keep_up(READINGS, REJECTED, AUDIT)

    def _write_batch(self, marked: DataFrame, facts: BatchFacts, resent: Longs, batch: BatchId) -> None:
        settings, topics = self._run.settings, self._run.settings.kafka.topics
        positions = self._as_frame(pa.table({"position": resent})) if len(resent) else None
        decided = mark_resent(accepted(marked), positions)
        readings = as_readings_table(decided, fields=settings.input.fields)
        append_once(readings.coalesce(1), settings, READINGS, batch)
        rejected = self._write_rejected(marked, facts.rejected_bytes, batch) if facts.rejected else None
        audit = as_arrow(facts.audit_rows(batch, resent), AUDIT)
        if append_rows_once(audit, settings, AUDIT, batch):  # a batch that is done again after a restart counts once
            count_archive(self._run.metrics, audit.to_pylist(), facts.kafka_ms, time.time())
        if rejected is not None:
            send(as_dead_letters(rejected), settings, topics.dead_letters)
        self._run.say(f"archive batch {batch.number}: {facts.count} records, {facts.rejected} rejected")

    def _write_rejected(self, marked: DataFrame, size: int, batch: BatchId) -> DataFrame:
        """Append the rejected records and return them."""
        rejected = as_rejected_table(marked)
        if size > REJECTED_IN_DRIVER_BYTES:
            append_once(rejected.coalesce(1), self._run.settings, REJECTED, batch)
            return rejected
        rows = rejected.toArrow()
        append_rows_once(rows.cast(arrow_schema(REJECTED)), self._run.settings, REJECTED, batch)
        return self._as_frame(rows)

    def _as_frame(self, rows: pa.Table) -> DataFrame:
        return self._run.spark.createDataFrame(rows)
