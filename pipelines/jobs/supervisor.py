"""Keeps the queries of the pipeline job running: bounded restarts, an end in order, and no restart on lost data."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from kafka.errors import KafkaError
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.alerts.child import AlertsChild, AlertsEnded
from pipelines.client_errors import CLIENT_ERRORS, as_ours
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.identity.check import examine, settle_identity
from pipelines.jobs.context import Say
from pipelines.jobs.ending import JVM_ENDS, Ending, end_in_order, stop_queries
from pipelines.jobs.failures import OutOfMemory, explain_failure
from pipelines.jobs.jvm import answers, kill_jvm, why_gone
from pipelines.jobs.liveness import Liveness
from pipelines.jobs.queries import Started, StartQueries
from pipelines.observe.lag import lags
from pipelines.observe.metrics import PipelineMetrics
from pipelines.observe.progress import kafka_offsets
from pipelines.settings import Settings
from pipelines.small_tables import wait_for_lake
from pipelines.topics import topic_offsets, wait_for_kafka

_HEALTHY_S = 600.0
_POLL_S = 0.5
_LIVENESS_EVERY_S = 2.0
_JVM_GRACE_S = 60.0


_START = "start"
"""Stands for a query when their start failed."""


class Stuck(InfrastructureUnavailable):
    """A batch does not end. Under spark-submit its JVM still answers, but is of no use any more."""


@dataclass
class Supervisor:
    """One session and the lives of its queries; the metrics outlive them."""

    spark: SparkSession
    settings: Settings
    start: StartQueries
    say: Say
    ending: Ending
    metrics: PipelineMetrics
    alerts: AlertsChild | None = None
    liveness: Liveness = field(default_factory=Liveness)
    _looked_at: float = 0.0
    _failed: str = _START
    _started: Started | None = None

    def run(self) -> None:
        """Run the queries; after a failure again, with pauses of 1, 2, 4 ... 60 s, `pipeline.max_restarts` times in a
        row. Returns when a signal asked for the end.

        An outage of Kafka or the store is waited for up to `pipeline.max_outage`, and does not count. Raises
        DataRefused at once when records are gone or checkpoint and tables do not fit, the last failure when there were
        too many, and InfrastructureUnavailable when Kafka or the store stay away, a batch is stuck or Java is out
        of memory. When the alerts have given up the queries end in order, and AlertsEnded says so.
        """
        failures = 0
        while not self.ending.asked.is_set():
            began = time.monotonic()
            try:
                self._run_once()
            except (DataRefused, SettingsError, AlertsEnded):
                raise
            except GridwatchError as problem:
                if self.ending.asked.is_set():
                    return
                self.metrics.up.set(0)
                if isinstance(problem, Stuck | OutOfMemory) or not answers(self.spark):
                    raise
                self._stop_all()
                failures = 1 if time.monotonic() - began > _HEALTHY_S else failures + 1
                waited_s = self._wait_for_parts()
                self._refuse_what_does_not_fit()
                if waited_s > 0:
                    failures = 1
                elif failures > self.settings.pipeline.max_restarts:
                    raise
                self._pause(problem, failures)
                self.metrics.restarts.labels(self._failed).inc()

    def _run_once(self) -> None:
        self._failed = _START
        with as_ours(self.settings):
            started = self._started = self.start()
        self.metrics.up.set(1)
        watchdog = Watchdog(self.spark, self.settings.pipeline.stuck_after + _JVM_GRACE_S, self.say)
        self.ending.in_order = True
        try:
            with watchdog:
                while not self.ending.asked.is_set() and not self._given_up:
                    self._look_at(started)
                    watchdog.beat()
                    self.ending.asked.wait(_POLL_S)
                if self._given_up:
                    self.ending.asked.set()
                self._end(started)
        except JVM_ENDS as error:
            raise why_gone(self.spark, error) from None
        finally:
            self.ending.in_order = False
        if self._given_up:
            raise self._given_up

    @property
    def _given_up(self) -> AlertsEnded | None:
        return self.alerts.problem if self.alerts else None

    def _end(self, started: Started) -> None:
        limit_s = self.settings.pipeline.stop_within
        why = "the alerts have given up" if self._given_up else "asked to end"
        self.say(f"{why}: the running batches may finish within {limit_s:g} s")
        deadline = time.monotonic() + limit_s
        started.incidents.ask_to_end()
        spark_ended = end_in_order(self.spark, started.spark, limit_s)
        if started.incidents.has_ended(deadline - time.monotonic()) and spark_ended:
            self.say("ended between two batches")
        else:
            self.say(f"a batch ran longer than {limit_s:g} s and was interrupted; the next start does it again")

    def _look_at(self, started: Started) -> None:
        queries, incidents = started.spark, started.incidents
        for query in queries:
            if not query.isActive:
                self._failed = query.name or _START
                raise self._explain(query)
        if incidents.problem is not None:
            self._failed = incidents.name
            raise incidents.problem
        now, seen = time.monotonic(), self.liveness
        if now - self._looked_at < _LIVENESS_EVERY_S:
            return
        self._looked_at = now
        for query in queries:
            progress: Any = query._jsq.lastProgress()
            batch = None if progress is None else int(progress.batchId())
            seen.observe(query.name or "", now, is_busy=bool(query.status["isTriggerActive"]), batch=batch)
            self._show_age(query.name or "")
        seen.observe(incidents.name, now, is_busy=incidents.is_busy, batch=incidents.updates)
        self._show_age(incidents.name)
        slowest, limit_s = seen.slowest(now), self.settings.pipeline.stuck_after
        if slowest and slowest[1] > limit_s:
            raise self._stuck(f"query {slowest[0]} has been in one batch for {slowest[1]:.0f} s")
        if now - seen.progressed.get("archive", now) > limit_s:
            seen.progressed["archive"] = now  # asked once in so long
            if lag := self._lag(queries):
                raise self._stuck(f"query archive has finished no batch for {limit_s:g} s, and {lag} readings wait")

    def _show_age(self, query: str) -> None:
        """At the scrape: it grows also while Java hangs and nobody comes here."""
        age = self.metrics.running_batch.labels(query)
        age.set_function(lambda: self.liveness.age_s(query, time.monotonic()))

    def _stuck(self, what: str) -> GridwatchError:
        kill_jvm(self.spark)
        return Stuck(f"{what} (pipeline.stuck_after): start the job again; batches repeat safely")

    def _lag(self, queries: list[StreamingQuery]) -> int:
        topic = self.settings.kafka.topics.readings
        progress: Any = next((query._jsq.lastProgress() for query in queries if query.name == "archive"), None)
        done = None if progress is None else kafka_offsets(json.loads(progress.json()))
        try:
            there = topic_offsets(self.settings.kafka, topic)
        except (GridwatchError, KafkaError):
            return 0  # no broker, no lag that anybody could see
        ends = {(topic, partition): end for partition, (_, end) in there.items()}
        return sum(records for _, records in lags({"archive": done or {}}, ends))

    def _explain(self, query: StreamingQuery) -> GridwatchError:
        failure = str(query.exception() or f"query {query.name} ended")  # Spark's own log has it whole
        problem = explain_failure(failure, f"query {query.name}")
        if isinstance(problem, DataRefused):
            with suppress(GridwatchError, *CLIENT_ERRORS):
                if found := examine(self.settings):
                    return DataRefused(found[0])
        return problem

    def _wait_for_parts(self) -> float:
        """Wait until Kafka and the store answer; returns the seconds it took, 0 when both answered at once."""
        began, had_to_wait = time.monotonic(), threading.Event()

        def told(line: str) -> None:
            had_to_wait.set()
            self.say(line)

        kafka = self.settings.kafka.model_copy(update={"connect_timeout": self.settings.pipeline.max_outage})
        wait_for_kafka(kafka, told)
        wait_for_lake(self.settings.model_copy(update={"kafka": kafka}), told)
        waited_s = time.monotonic() - began if had_to_wait.is_set() else 0.0
        self.metrics.outage.inc(waited_s)
        return waited_s

    def _refuse_what_does_not_fit(self) -> None:
        """Raises DataRefused or SettingsError. Who does not answer now is waited for after the next failed start."""
        with suppress(InfrastructureUnavailable, *CLIENT_ERRORS):
            settle_identity(self.settings, self.say)

    def _pause(self, problem: GridwatchError, failures: int) -> None:
        pause_s = min(2.0 ** (failures - 1), 60.0)
        self.say(f"{problem}; restart {failures} of {self.settings.pipeline.max_restarts} in {pause_s:g} s")
        time.sleep(pause_s)

    def _stop_all(self) -> None:
        """Raises Stuck when the incidents do not end: two of them must never write."""
        stop_queries(self.spark)
        if self._started is not None:
            self._started.incidents.ask_to_end()
            if not self._started.incidents.has_ended(_JVM_GRACE_S):
                raise Stuck(f"query {self._started.incidents.name} does not end: start the job again")
            self._started = None
        self.spark.catalog.clearCache()
        self.liveness = Liveness()


class Watchdog:
    """Ends the process with exit code 4 when its main thread has not come round for so long: Java hangs."""

    def __init__(self, spark: SparkSession, limit_s: float, say: Say) -> None:
        self._spark, self._limit_s, self._say = spark, limit_s, say
        self._last = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def beat(self) -> None:
        """The main thread has come round."""
        self._last = time.monotonic()

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _watch(self) -> None:
        while not self._over.wait(1):
            if time.monotonic() - self._last > self._limit_s:
                self._say(f"gridwatch: Java has not answered for {self._limit_s:g} s: start the job again")
                kill_jvm(self._spark)
                os._exit(InfrastructureUnavailable.exit_code)
