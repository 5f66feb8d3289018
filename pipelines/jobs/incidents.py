"""Query incidents: from the topics of anomalies, window ends and operators' actions to the tables, and to incidents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.jobs.context import Run
from pipelines.jobs.known_incidents import KnownIncidents, stored_anomalies
from pipelines.jobs.long_incidents import LongIncidents
from pipelines.jobs.operator_actions import OperatorActions
from pipelines.observe.batches import count_anomalies
from pipelines.observe.grid import show_incidents
from pipelines.sinks import BatchId, send
from pipelines.small_tables import append_rows_once, arrow_schema, merge_rows, moment, read_rows
from pipelines.sources import kafka_stream
from pipelines.tables import ANOMALIES, INCIDENTS, OPERATOR_ACTIONS, RECOMPUTATIONS
from pipelines.transforms.anomalies import decode_anomalies, encode_events
from pipelines.transforms.incident_relations import Key, key_of, relate
from pipelines.transforms.incident_rows import Anomaly
from pipelines.transforms.incidents import NEEDED, cut, incident_key, look_back

QUERY = "incidents"


def start_incidents(run: Run) -> StreamingQuery:
    """Start the query over the topics, from their beginning or from the checkpoint."""
    topics = run.settings.kafka.topics
    records = kafka_stream(
        run.spark,
        run.settings,
        topics.of_incidents,
        starting="earliest",
        max_offsets=run.settings.pipeline.max_offsets_per_trigger,
    )
    writer = records.writeStream.queryName(QUERY).foreachBatch(IncidentsBatch(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(QUERY))
    return writer.trigger(processingTime=f"{run.settings.pipeline.incidents_trigger} seconds").start()


@dataclass
class IncidentsBatch:
    """Writes one batch of anomalies and ticks, which Spark decodes and the driver holds.

    Everything derived is computed from the batch's records and the tables, not from what was new in it, so a replay
    after a crash sends again what the crash may have swallowed.
    """

    run: Run
    _clock_after: tuple[int, datetime | None] = (-2, None)
    """Number of the batch written last, and the clock after it."""
    _operators: OperatorActions = field(init=False)
    _long: LongIncidents = field(default_factory=LongIncidents, init=False)

    def __post_init__(self) -> None:
        self._operators = OperatorActions(self.run.settings)

    @cached_property
    def _withdrawn(self) -> pa.ChunkedArray:
        """Ids of anomalies that `gridwatch recompute` took back: read once, since it needs the pipeline stopped."""
        where = f"table_name = '{ANOMALIES.name}' AND change = 'gone'"
        return read_rows(self.run.settings, RECOMPUTATIONS, columns=["key"], where=where)["key"]

    def write(self, records: DataFrame, number: int) -> None:
        """Sink of the stream: anomalies by id, tombstones, incidents by MERGE, then their records."""
        batch = self.run.batch(QUERY, number)
        topics = self.run.settings.kafka.topics
        decoded = decode_anomalies(records, ticks=topics.ticks, actions=topics.actions).toArrow()
        found = decoded.filter(pc.is_valid(decoded["anomaly_id"]))
        events = found.drop(["window_end", "action"]).cast(arrow_schema(ANOMALIES))
        if refused := self._operators.archive(decoded, batch):
            self.run.say(f"{topics.actions}: {refused} records are no action of an operator and are left out")
        before, clock = self._clock(decoded["window_end"], batch)
        if events.num_rows:
            self._archive(events, batch)
        if events.num_rows or clock != before:
            self._update_incidents(events, before, clock, batch)
        self._clock_after = number, clock
        self.run.keep_up(ANOMALIES, INCIDENTS, OPERATOR_ACTIONS)

    def _archive(self, events: pa.Table, batch: BatchId) -> None:
        """Append the events whose id the table does not hold yet; equal ids have equal event times.

        What a recompute has withdrawn stays so when a replay or a new generation brings it again.
        """
        first = _first_occurrences(events)
        days = ", ".join(f"'{day}'" for day in pc.unique(first["event_date"]).to_pylist())
        span = pc.min_max(first["event_ts"]).as_py()
        where = f"event_date IN ({days}) AND event_ts BETWEEN {moment(span['min'])} AND {moment(span['max'])}"
        known = read_rows(self.run.settings, ANOMALIES, columns=["anomaly_id"], where=where)
        is_known = pc.is_in(first["anomaly_id"], known["anomaly_id"])
        new = first.filter(pc.invert(pc.or_(is_known, pc.is_in(first["anomaly_id"], self._withdrawn))))
        append_rows_once(new, self.run.settings, ANOMALIES, batch)
        count_anomalies(self.run.metrics, new)

    def _clock(self, ends: pa.ChunkedArray, batch: BatchId) -> tuple[datetime | None, datetime | None]:
        """Latest window end before this batch's ticks, and with them."""
        span = pc.min_max(ends).as_py()
        written, before = self._clock_after
        if written != batch.number - 1:
            before = self.run.latest_window_end(before=span["min"])
        return before, max((at for at in (before, span["max"]) if at is not None), default=None)

    def _update_incidents(
        self, events: pa.Table, before: datetime | None, clock: datetime | None, batch: BatchId
    ) -> None:
        settings = self.run.settings
        touched = _first_of_each_key(events.select(NEEDED).to_pylist())
        known = KnownIncidents.read(settings, touched, before)
        since = known.reach_back(touched)
        rules = self._operators.rules(min(since.values(), default=clock))
        steps = settings.detection.steps_s
        back = look_back(rules, steps)
        begun = self._long.continued(touched, since)
        anomalies = stored_anomalies(
            settings, {key: touched[key] if key in begun else at - back for key, at in since.items()}
        )
        found = cut(anomalies, begun, clock=clock, settings=rules, step_s=steps)
        # What lies before a key's moment was read to count k of n, and belongs to earlier incidents.
        fresh = [session.row for session in found if session.row["opened_at"] >= since[key_of(session.row)]]
        gone = known.vanished(since, fresh)
        closed = known.closed_by(clock, before, since)
        others = known.others(fresh, gone, closed)
        related = relate(fresh, others, settings=rules, lead_s=steps[1])
        decided = {row["incident_id"] for row in related}
        rows = [*related, *(row for row in closed if row["incident_id"] not in decided)]
        current = {row["incident_id"]: row for row in (*others, *rows)}
        show_incidents(self.run.metrics, current.values(), settings.metrics.feeders)
        still_open = {name for name, row in current.items() if row["status"] == "open"}
        if rows or gone:
            changed = pa.Table.from_pylist(rows, schema=arrow_schema(INCIDENTS))
            topic = settings.kafka.topics.incidents
            if gone:  # before the MERGE: after it nobody knows them any more, and a replay could not send them again
                send(as_tombstones(self.run.spark, gone), settings, topic)
            merge_rows(changed, gone, settings, INCIDENTS, key="incident_id")
            if rows:
                send(as_records(self.run.spark, changed), settings, topic)
            open_now = sum(row["status"] == "open" for row in rows)
            self.run.say(f"incidents batch {batch.number}: {len(rows)} incidents touched, {open_now} of them open")
        self._long.remember(found, still_open)


def as_records(spark: SparkSession, rows: pa.Table) -> DataFrame:
    """Kafka records of incidents."""
    frame = spark.createDataFrame(rows)
    return frame.select(F.col("incident_id").alias("key"), encode_events(frame, "incident").alias("value"))


def as_tombstones(spark: SparkSession, gone: Sequence[str]) -> DataFrame:
    """Kafka records that say that incidents are gone, by id."""
    return spark.createDataFrame([(key, None) for key in gone], "key string, value string")


def _first_occurrences(events: pa.Table) -> pa.Table:
    """One row an anomaly_id: the one with the lowest (partition, offset)."""
    ordered = events.sort_by([("kafka_partition", "ascending"), ("kafka_offset", "ascending")])
    numbered = ordered.select(["anomaly_id"]).append_column("row", pa.array(range(ordered.num_rows)))
    first = numbered.group_by("anomaly_id").aggregate([("row", "min")])["row_min"]
    return ordered.take(first)


def _first_of_each_key(events: list[Anomaly]) -> dict[Key, datetime]:
    first: dict[Key, datetime] = {}
    for event in events:
        if (key := incident_key(event)) is not None:
            first[key] = min(first.get(key, event["event_ts"]), event["event_ts"])
    return first
