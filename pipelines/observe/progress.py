"""Spark's own report of each batch, as JSON, to metrics and read positions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.sql import SparkSession
from pyspark.sql.streaming.listener import StreamingQueryListener

from pipelines.observe.metrics import JobMetrics

Offsets = Mapping[str, Mapping[int, int]]
"""Next offset by topic and partition."""

Progress = dict[str, Any]
"""`StreamingQueryProgress` as its JSON."""


class Positions:
    """Up to where each query has read each Kafka partition; kept by the progress of the queries, read by a scrape."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._read: dict[str, Offsets] = {}

    def put(self, query: str, offsets: Offsets) -> None:
        """The newest positions of a query."""
        with self._lock:
            self._read[query] = offsets

    def all(self) -> dict[str, Offsets]:
        """Positions by query."""
        with self._lock:
            return dict(self._read)


def take_progress(progress: Progress, metrics: JobMetrics, positions: Positions) -> None:
    """Enter one batch. An idle trigger has a progress too, every 10 s, with no rows and no addBatch."""
    query = progress["name"]
    if not query:
        return
    durations = progress.get("durationMs", {})
    if (offsets := kafka_offsets(progress)) is not None:
        positions.put(query, offsets)
    if "addBatch" not in durations and not progress["numInputRows"]:
        return
    metrics.input_records.labels(query).inc(progress["numInputRows"])
    metrics.batch_duration.labels(query).observe(durations.get("triggerExecution", 0) / 1000)
    for phase, spent_ms in durations.items():
        if phase != "triggerExecution":
            metrics.batch_phase.labels(query, phase).inc(max(0, spent_ms) / 1000)
    metrics.batch_rows.labels(query).set(progress["numInputRows"])
    metrics.batch_number.labels(query).set(progress["batchId"])
    metrics.last_batch.labels(query).set(time.time())
    _take_state(progress, metrics, query)
    if mark := watermark_s(progress):
        metrics.set_age(metrics.watermark_age, mark, query)


def _take_state(progress: Progress, metrics: JobMetrics, query: str) -> None:
    states = progress.get("stateOperators") or ()
    if not states:
        return
    metrics.state_bytes.labels(query).set(sum(state["memoryUsedBytes"] for state in states))
    metrics.state_commit.labels(query).inc(sum(state.get("commitTimeMs", 0) for state in states) / 1000)
    metrics.state_dropped.labels(query).inc(sum(state.get("numRowsDroppedByWatermark", 0) for state in states))
    files = sum(state.get("customMetrics", {}).get("rocksdbSstFileSize", 0) for state in states)
    metrics.state_disk_bytes.labels(query).set(files)


def watermark_s(progress: Progress) -> float | None:
    """The watermark, Unix time; None without one, and before the first reading, when Spark says 1970.

    >>> watermark_s({"eventTime": {"watermark": "2026-03-01T00:00:00.000Z"}})
    1772323200.0
    """
    text = progress.get("eventTime", {}).get("watermark")
    found = datetime.fromisoformat(text).timestamp() if text else 0.0
    return found or None


def kafka_offsets(progress: Progress) -> Offsets | None:
    """Ends of the batch in Kafka; None for a source that is not Kafka.

    >>> source = {"description": "KafkaV2[Subscribe[readings]]", "endOffset": {"readings": {"0": 7}}}
    >>> kafka_offsets({"sources": [source]})
    {'readings': {0: 7}}
    """
    ends = [s["endOffset"] for s in progress["sources"] if s["description"].startswith("KafkaV2") and s["endOffset"]]
    if not ends:
        return None
    read: dict[str, dict[int, int]] = {}
    for end in ends:
        for topic, partitions in end.items():
            read[topic] = {int(partition): int(offset) for partition, offset in partitions.items()}
    return read


class ProgressListener(StreamingQueryListener):
    """Hands each progress over as JSON.

    PySpark's own listener asks the JVM for every field of the report by a call of its own, a hundred and more a
    batch; this one asks once. It runs on Spark's listener thread, never on that of a query.
    """

    def __init__(self, take: Callable[[Progress], None]) -> None:
        self._take = take

    @property
    def _jlistener(self) -> Any:
        if not hasattr(self, "_jlistenerobj"):
            jvm: Any = SparkContext._jvm
            self._jlistenerobj = jvm.PythonStreamingQueryListenerWrapper(_Bridge(self._take))
        return self._jlistenerobj

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802
        """Not asked for."""

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        """Comes through `_Bridge`."""

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        """Not asked for."""


class _Bridge:
    """What the JVM calls; its names are those of the Java interface."""

    def __init__(self, take: Callable[[Progress], None]) -> None:
        self._take = take

    def onQueryStarted(self, event: Any) -> None:  # noqa: N802
        """Nothing to count."""

    def onQueryProgress(self, event: Any) -> None:  # noqa: N802
        """A batch has ended."""
        self._take(json.loads(event.progress().json()))

    def onQueryIdle(self, event: Any) -> None:  # noqa: N802
        """Nothing to count."""

    def onQueryTerminated(self, event: Any) -> None:  # noqa: N802
        """The job sees that itself."""

    class Java:
        """For py4j."""

        implements = ("org.apache.spark.sql.streaming.PythonStreamingQueryListener",)


def follow_progress(spark: SparkSession, take: Callable[[Progress], None]) -> Callable[[], None]:
    """Call `take` with the progress of every batch of the session; the returned function ends that."""
    listener = ProgressListener(take)
    spark.streams.addListener(listener)

    def leave() -> None:
        try:
            spark.streams.removeListener(listener)
        except (Py4JError, OSError):  # the JVM is gone, and the listener with it
            return

    return leave
