"""Query incidents: the topics anomalies and window-ticks to the tables anomalies and incidents, and to the topic."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.jobs.context import Run
from pipelines.jobs.known_incidents import KnownIncidents
from pipelines.sinks import BatchId, append_once, send
from pipelines.small_tables import arrow_schema, merge_rows
from pipelines.sources import kafka_stream
from pipelines.tables import ANOMALIES, INCIDENTS
from pipelines.transforms.anomalies import decode_anomalies, encode_events, first_occurrences
from pipelines.transforms.incidents import KEY, sessionise, with_incident_key

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
    """Writes one batch of anomalies and ticks.

    Everything derived is computed from the batch's records and the tables, not from what was new in it, so a replay
    after a crash sends again what the crash may have swallowed.
    """

    run: Run
    _clock_after: tuple[int, datetime | None] = (-2, None)
    """Number of the batch written last, and the clock after it."""

    def write(self, records: DataFrame, number: int) -> None:
        """Sink of the stream: anomalies by id, incidents by MERGE, then the incidents topic."""
        batch = self.run.batch(QUERY, number)
        topics = self.run.settings.kafka.topics
        kept = records.persist()
        try:
            before, clock = self._clock(kept.where(F.col("topic") == topics.ticks), batch)
            events = decode_anomalies(kept.where(F.col("topic") == topics.anomalies)).persist()
            count = self._archive(events, batch)
            if count or clock != before:
                self._update_incidents(events, before, clock, batch)
            events.unpersist()
            self._clock_after = number, clock
        finally:
            kept.unpersist()

    def _archive(self, events: DataFrame, batch: BatchId) -> int:
        """Append the events whose id the table does not hold yet; returns how many the batch has."""
        days = events.groupBy("event_date").count().collect()
        if days:
            known = self.run.table("anomalies").where(F.col("event_date").isin([day[0] for day in days]))
            new = first_occurrences(events).join(known.select("anomaly_id"), "anomaly_id", "left_anti")
            append_once(new.coalesce(1), self.run.settings, ANOMALIES, batch)
        return sum(day[1] for day in days)

    def _clock(self, ticks: DataFrame, batch: BatchId) -> tuple[datetime | None, datetime | None]:
        """Latest window end before this batch's ticks, and with them."""
        ends = ticks.select(F.from_json(F.col("value").cast("string"), "windowEnd long")["windowEnd"].alias("ms"))
        first, last = ends.agg(F.timestamp_millis(F.min("ms")), F.timestamp_millis(F.max("ms"))).head()  # type: ignore[misc]
        written, before = self._clock_after
        if written != batch.number - 1:
            windows = self.run.table("meter_windows").select(F.col("window_end").alias("end"))
            earlier = windows if first is None else windows.where(F.col("end") < F.lit(first))
            before = earlier.agg(F.max("end")).head()[0]  # type: ignore[index]
        return before, max((at for at in (before, last) if at is not None), default=None)

    def _update_incidents(
        self, events: DataFrame, before: datetime | None, clock: datetime | None, batch: BatchId
    ) -> None:
        settings = self.run.settings
        touched = with_incident_key(events).groupBy(*KEY).agg(F.min("event_ts").alias("since_ts")).collect()
        known = KnownIncidents.read(settings, touched, before)
        reached = known.reach_back(touched)
        fresh = self._sessionise(reached, clock)
        gone = known.vanished(reached, fresh)
        rows = pa.concat_tables([fresh, known.closed_by(clock, before, reached)])
        if rows.num_rows or gone:
            merge_rows(rows, gone, settings, INCIDENTS, key="incident_id")
            send(self._as_records(rows, gone), settings, settings.kafka.topics.incidents)
            open_now = pc.sum(pc.equal(rows["status"], "open")).as_py()
            self.run.say(
                f"incidents batch {batch.number}: {rows.num_rows} incidents touched, {open_now or 0} of them open"
            )

    def _sessionise(self, since: list[tuple[Any, ...]], clock: datetime | None) -> pa.Table:
        """Incidents of the given keys from a moment on, anew from the table anomalies."""
        schema = arrow_schema(INCIDENTS)
        if not since:
            return schema.empty_table()
        keys = self.run.spark.createDataFrame(since, f"{', '.join(f'{k} string' for k in KEY)}, since_ts timestamp")
        stored = self.run.table("anomalies").where(F.col("event_date") >= F.lit(min(row[-1] for row in since).date()))
        keyed = with_incident_key(stored).join(F.broadcast(keys), KEY).where("event_ts >= since_ts").drop("since_ts")
        return sessionise(keyed, clock=clock, settings=self.run.settings.incidents).toArrow().cast(schema)

    def _as_records(self, rows: pa.Table, gone: list[str]) -> DataFrame:
        frame = self.run.spark.createDataFrame(rows)
        present = frame.select(F.col("incident_id").alias("key"), encode_events(frame, "incident").alias("value"))
        if not gone:
            return present
        tombstones = self.run.spark.createDataFrame([(key, None) for key in gone], "key string, value string")
        return present.unionByName(tombstones)
