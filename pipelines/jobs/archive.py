"""Query archive: every record of the topic into `readings` or `rejected`, decided once, counted in `audit`."""

from __future__ import annotations

from datetime import datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.jobs.context import Run
from pipelines.jobs.counts import BatchCounts, count_batch
from pipelines.settings import Settings
from pipelines.sinks import BatchId, append_once, send
from pipelines.sources import kafka_stream
from pipelines.tables import AUDIT, READINGS, REJECTED
from pipelines.transforms.anomalies import encode_anomalies
from pipelines.transforms.checks import name_rejections
from pipelines.transforms.dead_letters import as_dead_letters, as_rejected_table
from pipelines.transforms.decode import decode_readings
from pipelines.transforms.reading_rules import attach_baseline, judge_readings, reading_anomalies
from pipelines.transforms.readings import (
    accepted,
    as_readings_table,
    attach_meters,
    flag_readings,
    mark_late,
    mark_resent,
    repeated_keys,
    type_readings,
)

QUERY = "archive"


def build(records: DataFrame, *, meters: DataFrame, baselines: DataFrame, settings: Settings) -> DataFrame:
    """The plan of a batch up to the verdicts: Kafka records to typed readings, reasons, flags and findings.

    Parses once, keeps no state, drops nothing. `baselines` is read again with every batch.
    """
    detection, source = settings.detection, settings.input
    decoded = decode_readings(records, fields=source.fields)
    checked = name_rejections(decoded, max_skew_s=source.max_skew, max_age_s=source.max_age)
    placed = attach_meters(type_readings(checked), meters, detection=detection)
    flagged = flag_readings(placed, detection=detection)
    compared = attach_baseline(flagged, baselines, max_age_s=detection.baseline_max_age_s)
    return judge_readings(compared, detection=detection)


def start_archive(run: Run) -> StreamingQuery:
    """Start the query; the first start reads from `pipeline.starting`, later ones from the checkpoint."""
    settings = run.settings
    records = kafka_stream(
        run.spark,
        settings,
        [settings.kafka.topics.readings],
        starting=settings.pipeline.starting,
        max_offsets=settings.pipeline.max_offsets_per_trigger,
    )
    judged = build(records, meters=run.meters, baselines=run.table("baselines"), settings=settings)
    writer = judged.writeStream.queryName(QUERY).foreachBatch(ArchiveBatch(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(QUERY))
    return writer.trigger(processingTime=f"{settings.pipeline.archive_trigger} seconds").start()


class ArchiveBatch:
    """Writes one batch: Delta first, Kafka last, and Kafka also when Delta has the batch already."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._highest: datetime | None = None
        self._highest_is_of = -1

    def write(self, judged: DataFrame, number: int) -> None:
        """Sink of the stream. A crash at any line is repaired by the replay of the batch."""
        batch = self._run.batch(QUERY, number)
        highest = self._highest_event_ts_before(batch)
        watermark_s = self._run.settings.detection.watermark
        kept = mark_late(judged, highest_before=highest, watermark_s=watermark_s).persist()
        try:
            if counts := count_batch(kept):
                self._write_counted(kept, counts, highest, batch)
                self._remember(highest, counts, batch)
        finally:
            kept.unpersist()

    def _write_counted(
        self, judged: DataFrame, counts: BatchCounts, highest: datetime | None, batch: BatchId
    ) -> None:
        settings, topics = self._run.settings, self._run.settings.kafka.topics
        readings = accepted(judged)
        repeated, resent = self._find_resent(readings, counts, highest)
        decided = mark_resent(readings, repeated)
        append_once(as_readings_table(decided), settings, READINGS, batch)
        if counts.rejected:
            append_once(as_rejected_table(judged), settings, REJECTED, batch)
        audit = counts.audit_rows(batch, resent)
        append_once(self._run.spark.createDataFrame(audit, AUDIT.schema).coalesce(1), settings, AUDIT, batch)
        if counts.rejected:
            send(as_dead_letters(as_rejected_table(judged)), settings, topics.dead_letters)
        send(encode_anomalies(reading_anomalies(decided)), settings, topics.anomalies)
        self._run.say(f"archive batch {batch.number}: {counts.records_in} records, {counts.rejected} rejected")

    def _highest_event_ts_before(self, batch: BatchId) -> datetime | None:
        """Largest accepted event time of earlier batches: kept in memory, from `audit` after a start."""
        if self._highest_is_of == batch.number - 1:
            return self._highest
        mine = (F.col("batch_id") < batch.number) & (F.col("generation") == batch.generation)
        found: datetime | None = self._run.table("audit").where(mine).agg(F.max("max_event_ts")).head()[0]  # type: ignore[index]
        return found

    def _remember(self, highest: datetime | None, counts: BatchCounts, batch: BatchId) -> None:
        known = [at for at in (highest, counts.max_event_ts) if at is not None]
        self._highest, self._highest_is_of = max(known, default=None), batch.number

    def _find_resent(
        self, readings: DataFrame, counts: BatchCounts, highest: datetime | None
    ) -> tuple[DataFrame | None, dict[int, int]]:
        """The keys that occur twice, and how many readings of each partition repeat one."""
        keys = repeated_keys(readings, self._recent_readings(counts, highest)).collect()
        if not keys:
            return None, {}
        schema = "meter_id string, event_ts timestamp, first_position bigint"
        repeated = self._run.spark.createDataFrame(keys, schema)
        again = mark_resent(readings, repeated).where("is_resent").groupBy("kafka_partition").count()
        return repeated, {row[0]: row[1] for row in again.collect()}

    def _recent_readings(self, counts: BatchCounts, highest: datetime | None) -> DataFrame:
        """Readings of earlier batches that a reading of this one may repeat."""
        readings = self._run.table("readings")
        if highest is None or counts.min_event_ts is None or counts.max_event_ts is None:
            return readings.limit(0)
        since = max(counts.min_event_ts, highest - timedelta(seconds=self._run.settings.resent_horizon_s))
        until = counts.max_event_ts
        in_reach = F.col("event_ts").between(F.lit(since), F.lit(until))
        in_dates = F.col("event_date").between(F.lit(since.date()), F.lit(until.date()))
        return readings.where(in_dates & in_reach & ~counts.is_of_batch())
