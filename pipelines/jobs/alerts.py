"""The alerts job: Kafka to Kafka in Spark's real-time mode. `gridwatch alerts` and spark-submit start it here.

It judges each reading by the same functions as the archive query, milliseconds after Kafka has it, and writes to the
topic `anomalies` only. Rejected records are the archive's. It is a process of its own: every partition of the topic
holds a task slot for as long as the job runs.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.client_errors import as_ours
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.fleet import require_known_classes
from pipelines.jobs import archive
from pipelines.jobs.alerts_mode import Change, alerts_checkpoint, latest_change
from pipelines.jobs.alerts_offsets import Offsets, committed_offsets, first_offsets, positions
from pipelines.jobs.alerts_slots import require_slots
from pipelines.jobs.alerts_watch import Watch
from pipelines.jobs.context import Say
from pipelines.jobs.ending import JVM_ENDS, quieten, stop_queries, stop_quietly
from pipelines.jobs.failures import explain_failure
from pipelines.jobs.jvm import answers, kill_jvm, spark_errors
from pipelines.jobs.live_table import LiveTable
from pipelines.jobs.metering import AlertsMetering, metered_alerts
from pipelines.jobs.pace import Every
from pipelines.jobs.pipeline import stop_session
from pipelines.jobs.rehearsal import Rehearsal
from pipelines.kafka_options import kafka_client_options
from pipelines.session import build_session
from pipelines.settings import AUTO, REALTIME, Settings
from pipelines.small_tables import STORE_ERRORS, wait_for_lake
from pipelines.sources import kafka_stream
from pipelines.tables import BASELINES, METERS
from pipelines.topics import check_topics, topic_offsets, wait_for_kafka
from pipelines.transforms.anomalies import encode_anomalies, finding
from pipelines.transforms.reading_rules import reading_anomalies

QUERY = "alerts"
READY = "gridwatch alerts is judging"
"""Said once every partition has its task; whoever started the job waits for it."""

HEARTBEAT = "heartbeat"
_PIPELINE_LIMIT_S = 300.0
_HEALTHY_S = 600.0
_SAY_EVERY_S = 60.0


def build(records: DataFrame, *, meters: DataFrame, baselines: DataFrame, settings: Settings) -> DataFrame:
    """The plan: Kafka records to Kafka records (key, value, headers, topic): anomalies and heartbeats.

    Stateless, one branch: real-time mode refuses the union of two branches of one source, so a heartbeat takes the
    way of a finding, also for a rejected record, whose findings count for nothing.
    """
    judged = archive.judge(archive.build(records, meters=meters, settings=settings), baselines, settings=settings)
    is_due = F.col("kafka_offset") % settings.alerts.heartbeat_every == 0
    nothing = F.lit(None)
    beat = finding(
        HEARTBEAT,
        severity=F.lit("INFO"), observed=nothing, threshold=nothing, deviation=nothing, score=nothing, text=F.lit(""),
    )  # fmt: skip
    is_odd = F.col("reason").isNull() & F.col("findings").isNotNull()
    said = (
        F.when(is_odd & is_due, F.array_append("findings", beat))
        .when(is_odd, F.col("findings"))
        .when(is_due, F.array(beat))
    )
    is_beat = F.col("anomaly_type") == HEARTBEAT
    records_out = encode_anomalies(
        reading_anomalies(judged.withColumn("findings", said)),
        is_beat.alias("is_beat"),
        F.to_json(F.struct("source.partition", "source.offset", "source.timestamp")).alias("place"),
    )
    topics, is_beat = settings.kafka.topics, F.col("is_beat")
    return records_out.select(
        F.when(~is_beat, F.col("key")).alias("key"),
        F.when(is_beat, F.col("place")).otherwise(F.col("value")).alias("value"),
        F.when(~is_beat, F.col("headers")).alias("headers"),
        F.when(is_beat, topics.heartbeats).otherwise(topics.anomalies).alias("topic"),
    )


def run_alerts(settings: Settings, say: Say) -> None:
    """Run the job until it is interrupted, is stuck, or has failed more than `alerts.max_restarts` times in a row.

    Raises SettingsError for too few slots or the wrong mode, DataRefused when records it needs are gone, and
    InfrastructureUnavailable when it is stuck or Kafka, the store or the pipeline cannot be reached.
    """
    if settings.alerts.mode != REALTIME:
        raise SettingsError(
            f"alerts.mode = {settings.alerts.mode}: the pipeline publishes the anomalies of readings; set alerts.mode ="
            " realtime for both jobs and start the pipeline first"
        )
    with as_ours(settings):
        wait_for_kafka(settings.kafka, say)
        check_topics(settings)
        wait_for_lake(settings, say)
        partitions = len(topic_offsets(settings.kafka, settings.kafka.topics.readings))
        say("starting Spark for the alerts")
        spark = build_session(_as_session(settings, partitions), app_name="gridwatch-alerts")
        try:
            with spark_errors(spark, "the alerts job"):
                slots = require_slots(spark, settings, partitions, say)
                change = _wait_for_pipeline(spark, settings, say)
                with metered_alerts(spark, settings, slots, say) as metering:
                    AlertsJob(spark, settings, slots, change, say, metering).supervise()
        finally:
            quieten(spark)
            stop_session(spark)


@dataclass
class AlertsJob:
    """One life of the job: starts the query, watches it, and starts it again after a failure."""

    spark: SparkSession
    settings: Settings
    slots: int
    change: Change
    say: Say
    metering: AlertsMetering
    _watch: Watch | None = None

    def __post_init__(self) -> None:
        require_known_classes(self.settings)
        self._meters, self._baselines = (LiveTable(self.spark, self.settings, t) for t in (METERS, BASELINES))
        self._topic = self.settings.kafka.topics.readings
        self._checkpoint = alerts_checkpoint(self.settings, self.change)

    def supervise(self) -> None:
        """Run the query; at once again when its topic has grown, and after a failure with pauses of 1, 2, 4 ... 60 s,
        `alerts.max_restarts` times in a row."""
        failures = 0
        while True:
            started = time.monotonic()
            try:
                self._run_once()
            except (DataRefused, SettingsError):
                raise
            except GridwatchError as problem:
                failures = 1 if time.monotonic() - started > _HEALTHY_S else failures + 1
                is_final = self._watch is not None and self._watch.problem is not None
                if is_final or failures > self.settings.alerts.max_restarts or not answers(self.spark):
                    raise
                self.metering.metrics.up.set(0)
                stop_queries(self.spark)
                pause = min(2.0 ** (failures - 1), 60.0)
                self.say(f"{problem}; restart {failures} of {self.settings.alerts.max_restarts} in {pause:g} s")
                time.sleep(pause)

    def _run_once(self) -> None:
        with as_ours(self.settings), spark_errors(self.spark, f"query {QUERY}"):
            first, begins = self._begin()
            watch = Watch(self.settings, begins, slots=self.slots, end_jvm=lambda: kill_jvm(self.spark), say=self.say)
            self._watch = watch
            self.metering.follow(watch)
            with watch:
                try:
                    self._follow(self.start(first), watch)
                except JVM_ENDS:
                    if watch.problem:
                        raise watch.problem from None
                    raise

    def _begin(self) -> tuple[Offsets | str, Offsets]:
        """What a first start is told, and the offsets this start begins at."""
        there = topic_offsets(self.settings.kafka, self._topic)
        committed = committed_offsets(self.spark, self._checkpoint, self._topic)
        if committed is not None:
            return committed, positions(committed, there)
        first = first_offsets(self.change.published, there, self.settings.pipeline.starting)
        return first, positions(first, there)

    def start(self, first: Offsets | str) -> StreamingQuery:
        """Start the query; `first` is for the checkpoint's very first batch only."""
        settings = self.settings
        records = kafka_stream(self.spark, settings, [self._topic], starting=first)
        outgoing = self._build(records)
        self._rehearsal = Rehearsal(
            lambda: self._build(self.spark.createDataFrame([], records.schema)), settings.alerts.trigger, self.say
        )
        writer = outgoing.writeStream.queryName(QUERY).format("kafka").options(**kafka_client_options(settings.kafka))
        writer = writer.option("includeHeaders", "true").option("checkpointLocation", self._checkpoint)
        trigger: Any = writer.outputMode("update").trigger
        query: StreamingQuery = trigger(realTime=f"{int(settings.alerts.trigger * 1000)} milliseconds").start()
        return query

    def _build(self, records: DataFrame) -> DataFrame:
        return build(records, meters=self._meters.frame, baselines=self._baselines.frame, settings=self.settings)

    def _follow(self, query: StreamingQuery, watch: Watch) -> None:
        partitions = len(topic_offsets(self.settings.kafka, self._topic))
        look, speak = Every(self.settings.alerts.baselines_every), Every(_SAY_EVERY_S)
        is_ready = False
        while query.isActive and not watch.problem and not watch.has_grown:
            if not is_ready and (watch.has_beaten or _active_tasks(self.spark) >= partitions):
                is_ready = True
                self.metering.metrics.up.set(1)
                self.say(f"{READY} {self._topic} at {self.settings.kafka.bootstrap_servers}, {self.slots} slots")
            if look():
                self._refresh()
            if is_ready:
                self._rehearsal.step()
                if speak():
                    self.say(f"alerts: {watch.lag} readings behind at most")
            time.sleep(0.25)
        if watch.problem:
            raise watch.problem
        if watch.has_grown:
            self.say(f"{self._topic} has {len(watch.reached())} partitions now: reading the new ones from their start")
            self.spark.sparkContext.setLogLevel("OFF")  # each interrupted task would print where it was
            stop_quietly(query)
            self.spark.sparkContext.setLogLevel("WARN")
            return
        failure = str(query.exception() or f"query {QUERY} ended")
        self.say(failure)
        raise explain_failure(failure, f"query {QUERY}")

    def _refresh(self) -> None:
        """A store that does not answer is no reason to stop: a baseline that is too old is not used."""
        try:
            self._baselines.refresh()
            if self._meters.refresh():
                require_known_classes(self.settings)
        except SettingsError as problem:
            self.say(f"{problem}; until then its meters have the common limits")
        except STORE_ERRORS as problem:
            self.say(f"baselines not read again: {str(problem).splitlines()[0]}")


def _as_session(settings: Settings, partitions: int) -> Settings:
    """The settings under which `build_session` makes this job's session."""
    alerts = settings.alerts
    changes = {
        "master": f"local[{partitions + 2}]" if alerts.master == AUTO else alerts.master,
        "driver_memory": alerts.driver_memory,
        "jvm_options": alerts.jvm_options,
    }
    return settings.model_copy(update={"pipeline": settings.pipeline.model_copy(update=changes)})


def _wait_for_pipeline(spark: SparkSession, settings: Settings, say: Say) -> Change:
    """The change that gave this job its work; the pipeline notes it once its tables are there."""
    deadline, told = time.monotonic() + _PIPELINE_LIMIT_S, False
    while (change := latest_change(spark, settings)).mode != REALTIME:
        if time.monotonic() > deadline:
            raise InfrastructureUnavailable(
                f"pipeline.checkpoint = {settings.pipeline.checkpoint}: no pipeline has handed over the anomalies of"
                f" readings within {_PIPELINE_LIMIT_S:g} s; start `gridwatch run` with alerts.mode = realtime and the"
                " same pipeline.checkpoint"
            )
        if not told:
            say("waiting for the pipeline to hand over the anomalies of readings")
            told = True
        time.sleep(0.5)
    return change


def _active_tasks(spark: SparkSession) -> int:
    tracker = spark.sparkContext.statusTracker()
    stages = (tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds())
    return sum(stage.numActiveTasks for stage in stages if stage)


def main() -> int:
    """Entry for spark-submit: the arguments of `gridwatch alerts`."""
    from pipelines.cli.main import main as command

    return command(["alerts", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
