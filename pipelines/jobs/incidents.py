"""Query incidents: the topics anomalies and window-ticks to the tables anomalies and incidents, and to the topic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.jobs.context import Run
from pipelines.sinks import append_once, merge_by_id, send
from pipelines.sources import kafka_stream
from pipelines.tables import ANOMALIES, INCIDENTS
from pipelines.transforms.anomalies import decode_anomalies, encode_events
from pipelines.transforms.incidents import KEY, close_by_clock, off_delay_ms, sessionise, with_incident_key

QUERY = "incidents"


def start_incidents(run: Run) -> StreamingQuery:
    """Start the query over both topics, from their beginning or from the checkpoint."""
    topics = run.settings.kafka.topics
    records = kafka_stream(
        run.spark,
        run.settings,
        [topics.anomalies, topics.ticks],
        starting="earliest",
        max_offsets=run.settings.pipeline.max_offsets_per_trigger,
    )
    writer = records.writeStream.queryName(QUERY).foreachBatch(IncidentsBatch(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(QUERY))
    return writer.trigger(processingTime=f"{run.settings.pipeline.incidents_trigger} seconds").start()


@dataclass
class IncidentsBatch:
    """Writes one batch of anomalies and ticks."""

    run: Run

    def write(self, records: DataFrame, number: int) -> None:
        """Sink of the stream: anomalies by id, incidents by MERGE, then the incidents topic.

        Everything derived is computed from the batch's events and the tables, not from what was new in it, so
        a replay after a crash sends again what the crash may have swallowed.
        """
        settings, batch = self.run.settings, self.run.batch(QUERY, number)
        topics = settings.kafka.topics
        kept = records.persist()
        try:
            events = decode_anomalies(kept.where(F.col("topic") == topics.anomalies))
            events = events.orderBy("kafka_partition", "kafka_offset").dropDuplicates(["anomaly_id"]).persist()
            count = events.count()
            if count:
                append_once(self._unknown(events).coalesce(1), settings, ANOMALIES, batch)
            before, clock = self._clock(kept.where(F.col("topic") == topics.ticks))
            changed = self._update_incidents(events, before, clock) if count or clock != before else 0
            events.unpersist()
        finally:
            kept.unpersist()
        if count or changed:
            self.run.say(f"incidents batch {number}: {count} anomalies, {changed} incidents touched")

    def _unknown(self, events: DataFrame) -> DataFrame:
        """The events whose id the table does not hold yet."""
        days = [row[0] for row in events.select("event_date").distinct().collect()]
        known = self.run.table("anomalies").where(F.col("event_date").isin(days)).select("anomaly_id")
        return events.join(known, "anomaly_id", "left_anti")

    def _clock(self, ticks: DataFrame) -> tuple[datetime | None, datetime | None]:
        """Latest window end before this batch's ticks, and with them."""
        ends = ticks.select(F.from_json(F.col("value").cast("string"), "windowEnd long")["windowEnd"].alias("ms"))
        first, last = ends.agg(F.timestamp_millis(F.min("ms")), F.timestamp_millis(F.max("ms"))).head()  # type: ignore[misc]
        windows = self.run.table("meter_windows").select(F.col("window_end").alias("end"))
        if first is not None:
            windows = windows.where(F.col("end") < F.lit(first))
        before: datetime | None = windows.agg(F.max("end")).head()[0]  # type: ignore[index]
        return before, last if last is not None and (before is None or last > before) else before

    def _update_incidents(self, events: DataFrame, before: datetime | None, clock: datetime | None) -> int:
        settings = self.run.settings
        touched = with_incident_key(events).groupBy(*KEY).agg(F.min("event_ts").alias("first_ts"))
        known = _with_scope_id(self.run.table("incidents"))
        reopened = self._reach_back(touched, known).persist()
        fresh = sessionise(self._anomalies_since(reopened), clock=clock, settings=settings.incidents)
        replaced = known.join(reopened, KEY).where(F.col("opened_at") >= F.col("since_ts"))
        vanished = replaced.join(fresh.select("incident_id"), "incident_id", "left_anti")
        rows = fresh.withColumn("is_gone", F.lit(False)).unionByName(
            vanished.select(*INCIDENTS.column_names).withColumn("is_gone", F.lit(True))
        )
        if clock is not None:
            rows = rows.unionByName(self._closed_by_clock(known.join(reopened, KEY, "left_anti"), before, clock))
        rows = rows.coalesce(1).persist()
        try:
            count = rows.count()
            if count:
                merge_by_id(rows, settings, INCIDENTS, key="incident_id", delete_column="is_gone")
                send(_as_records(rows), settings, settings.kafka.topics.incidents)
        finally:
            rows.unpersist()
            reopened.unpersist()
        return count

    def _reach_back(self, touched: DataFrame, known: DataFrame) -> DataFrame:
        """From when on each touched key must be sessionised again: the opening of the incident it may continue."""
        reach = F.unix_millis("last_anomaly_at") + off_delay_ms(self.run.settings.incidents)
        continued = known.join(touched, KEY).where(reach >= F.unix_millis("first_ts"))
        opened = continued.groupBy(*KEY).agg(F.min("opened_at").alias("opened_at"))
        return touched.join(opened, KEY, "left").select(*KEY, F.least("first_ts", "opened_at").alias("since_ts"))

    def _anomalies_since(self, reopened: DataFrame) -> DataFrame:
        earliest = reopened.agg(F.min("since_ts")).head()[0]  # type: ignore[index]
        stored = self.run.table("anomalies")
        if earliest is not None:
            stored = stored.where(F.col("event_date") >= F.lit(earliest.date()))
        keyed = with_incident_key(stored)
        return keyed.join(reopened, KEY).where(F.col("event_ts") >= F.col("since_ts")).drop("since_ts")

    def _closed_by_clock(self, untouched: DataFrame, before: datetime | None, clock: datetime) -> DataFrame:
        """Open incidents that are over now, and those this batch closed already if it is a replay."""
        recent = F.lit(True) if before is None else (F.col("closed_at") > F.lit(before))
        candidates = untouched.where((F.col("status") == "open") | recent)
        closed = close_by_clock(candidates, clock=clock, settings=self.run.settings.incidents)
        return closed.withColumn("is_gone", F.lit(False))


def _with_scope_id(incidents: DataFrame) -> DataFrame:
    return incidents.withColumn(
        "scope_id", F.when(F.col("scope") == "meter", F.col("meter_id")).otherwise(F.col("feeder_id"))
    )


def _as_records(rows: DataFrame) -> DataFrame:
    value = F.when(~F.col("is_gone"), encode_events(rows, "incident"))
    return rows.select(F.col("incident_id").alias("key"), value.alias("value"))
