"""Every metric family of the jobs, in one place: name, unit, labels.

All begin with `gridwatch_` and use base units. No label holds a meter id or free text. Whoever has a number takes the
object (`Run.metrics` in the pipeline) and sets it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    disable_created_metrics,
)
from prometheus_client import ProcessCollector as PythonCollector

from pipelines.contract import rejection_reasons
from pipelines.observe.bulk import BulkHistogram

disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter, which Prometheus 2 does not use

BATCH_S = (0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600)
SINK_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
LATENCY_S = (
    0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1800, 3600,
)  # fmt: skip


class ProgramMetrics:
    """What every program of ours has: whether it is up, its version, its Python. A registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        PythonCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.up = self.gauge("up", "1 while it does its work (a job: all its queries run), 0 before and after.")
        self.gauge("build_info", "1, with the version of gridwatch.", "version").labels(_version()).set(1)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge `gridwatch_<name>`."""
        return Gauge(f"gridwatch_{name}", text, labels, registry=self.registry)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """A counter `gridwatch_<name>_total`."""
        return Counter(f"gridwatch_{name}", text, labels, registry=self.registry)

    def histogram(self, name: str, text: str, label: str, buckets: tuple[float, ...]) -> Histogram:
        """A histogram with one label."""
        return Histogram(f"gridwatch_{name}", text, (label,), buckets=buckets, registry=self.registry)


class JobMetrics(ProgramMetrics):
    """What a job on Spark has: its queries, batches, state, restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.restarts = self.counter(
            "restarts",
            "Restarts inside the running job, by the query that failed; `start` when the queries could not be started."
            " In the pipeline a failure of one starts all of them again.",
            "query",
        )
        self.input_records = self.counter(
            "input_records",
            "Rows a query has read. Of windows: readings of the table, also those it leaves out as late or re-sent.",
            "query",
        )
        self.batch_duration = self.histogram(
            "batch_duration_seconds", "Duration of a batch, or of an update of the incidents.", "query", BATCH_S
        )
        self.batch_phase = self.counter(
            "batch_phase_seconds",
            "Time in a phase of the batches: addBatch does the work, walCommit and commitOffsets write the checkpoint.",
            "query", "phase",
        )  # fmt: skip
        self.batch_rows = self.gauge("batch_records", "Rows the last batch has read.", "query")
        self.batch_number = self.gauge(
            "batch_number", "Number of the last batch, or of the last update of the incidents.", "query"
        )
        self.last_batch = self.gauge("last_batch_timestamp_seconds", "When the last batch ended (Unix time).", "query")
        self.trigger = self.gauge("trigger_interval_seconds", "Least time between two batches, as set.", "query")
        self.state_bytes = self.gauge("state_bytes", "Memory of a query's state.", "query")
        self.state_disk_bytes = self.gauge("state_disk_bytes", "Files of a query's state on local disk.", "query")
        self.state_commit = self.counter("state_commit_seconds", "Time to commit state to the checkpoint.", "query")
        self.state_dropped = self.counter(
            "state_dropped_rows",
            "Rows Spark itself dropped as late. The archive keeps late rows away, so this must stay 0.",
            "query",
        )
        self.held_panes = self.gauge(
            "held_pane_rows",
            "Panes that wait for partitions further behind; a file counts until all of it is released.",
        )
        self.partitions_left_out = self.counter(
            "partitions_left_out",
            "Batches that did not wait for a partition because of pipeline.max_held_panes: its readings may be late.",
            "partition",
        )
        self.running_batch = self.gauge(
            "running_batch_seconds", "How long the running batch has lasted at least; 0 between two batches.", "query"
        )
        self.watermark_age = self.gauge(
            "watermark_age_seconds", "Wall clock less the watermark, at the moment of the scrape.", "query"
        )

        self.note_read: Callable[[str, Mapping[str, Mapping[int, int]]], None] = lambda _query, _offsets: None
        """Takes the next offsets, by topic and partition, of a query that is not Spark's."""

    def prepare(self, triggers: Mapping[str, float]) -> None:
        """Make the series of the queries known before their first batch, so that a rate over them begins at 0.

        `triggers`: least seconds between two batches, by query.
        """
        for query, seconds in triggers.items():
            self.trigger.labels(query).set(seconds)
            self.last_batch.labels(query).set_to_current_time()
            for family in (self.restarts, self.input_records, self.batch_duration):
                family.labels(query)

    def set_age(self, gauge: Gauge, since_s: float, *labels: str) -> None:
        """Let a gauge show how long ago a moment (Unix time) was, at every scrape anew."""
        target = gauge.labels(*labels) if labels else gauge
        target.set_function(lambda: time.time() - since_s)


class AlertsMetrics(ProgramMetrics):
    """Of one member of the alerts. What the whole group has committed, the pipeline shows too."""

    def __init__(self) -> None:
        super().__init__()
        self.restarts = self.counter("restarts", "Restarts inside the running process.", "query")
        self.restarts.labels("alerts")
        self.judged = self.counter("alerts_judged_records", "Records of sensor-readings that were judged.")
        self.sent = self.counter("alerts_sent", "Anomalies that were sent, repeats included.", "type")
        self.committed = self.gauge(
            "alerts_committed_offset", "Next offset of a partition, as committed by this member.", "partition"
        )
        self.partitions = self.gauge("alerts_partitions", "Partitions of this member.", "state")
        self.bounds_version = self.gauge(
            "alerts_bounds_version", "Version of a table that the bounds are made of.", "table"
        )
        self.bounds_age = self.gauge(
            "alerts_bounds_age_seconds", "Time since the tables of the bounds were last looked at; they may be newer."
        )


class PipelineMetrics(JobMetrics):
    """Of the pipeline job."""

    def __init__(self) -> None:
        super().__init__()
        self.processed = self.counter("processed_readings", "Readings accepted and stored in the table readings.")
        self.rejected = self.counter("rejected_records", "Records rejected, by reason.", "reason")
        for reason in rejection_reasons():  # a rate sees the first ones only if it has seen 0
            self.rejected.labels(reason)
        self.late = self.counter("late_readings", "Stored readings that came too late for their windows.")
        self.resent = self.counter("resent_readings", "Stored readings that had been sent before.")
        self.newest_event_age = self.gauge(
            "newest_reading_age_seconds", "Wall clock less the newest stored event time, at the moment of the scrape."
        )
        self.newest_record_age = self.gauge(
            "newest_record_age_seconds", "Wall clock less the newest stored broker time, at the moment of the scrape."
        )
        self.latency = BulkHistogram(
            "gridwatch_end_to_end_latency_seconds",
            "From Kafka's append of a reading until: archive, it is stored; reading, feeder or window, the anomaly"
            " stands in its topic (window: counted from the latest reading of the window). incident: from the append of"
            " the first anomaly of an update that may open, end or worsen an incident, until that is on its topic.",
            "stage", buckets=LATENCY_S, registry=self.registry,
        )  # fmt: skip
        self.anomalies = self.counter("anomalies", "Anomalies stored, each id once.", "type", "severity", "stage")
        self.open_incidents = self.gauge("open_incidents", "Open incidents.", "scope", "severity")
        self.feeder_incidents = self.gauge(
            "feeder_open_incidents",
            "Open incidents of a feeder and its meters; the worst feeders, and `other`.",
            "feeder",
        )
        self.sink_duration = Histogram(
            "gridwatch_sink_duration_seconds", "Duration of one write.", ("kind", "sink"), buckets=SINK_S,
            registry=self.registry,
        )  # fmt: skip
        self.meters_by_band = self.gauge("meters", "Meters by voltage band in the newest window.", "band")
        self.window_end_age = self.gauge(
            "newest_window_age_seconds", "Wall clock less the newest window end, at the moment of the scrape."
        )
        self.worst_meters = self.gauge(
            "worst_meter_voltage_pu",
            "Mean voltage, in units of Un, of the meters farthest from Un in the newest window, worst first.",
            "rank",
        )
        self.last_maintenance = self.gauge(
            "last_maintenance_timestamp_seconds", "When a table was last compacted and cleaned (Unix time).", "table"
        )
        self.maintenance_duration = self.gauge(
            "maintenance_duration_seconds", "Duration of the last upkeep of a table.", "table"
        )
        self.maintenance_interval = self.gauge(
            "maintenance_interval_seconds", "How often the pipeline looks after its tables, as set; 0 = never."
        )
        self.maintained_files = self.counter(
            "maintained_files", "Files that upkeep made into larger ones or removed.", "table", "what"
        )
        self.table_files = self.gauge("table_files", "Files of a table after its last upkeep.", "table")
        self.table_bytes = self.gauge("table_bytes", "Size of a table's files after its last upkeep.", "table")
        self.table_version = self.gauge("table_version", "Version of a table after its last upkeep.", "table")
        self.outage = self.counter("outage_seconds", "Time spent waiting for Kafka or the store after a failure.")

    def time_sink(self, kind: str, name: str, seconds: float) -> None:
        """A listener of `pipelines.write_times`."""
        self.sink_duration.labels(kind, name).observe(seconds)


class NotifyMetrics(ProgramMetrics):
    """Of the notifier."""

    def __init__(self) -> None:
        super().__init__()
        self.notifications = self.counter(
            "notifications", "Tries to deliver a notification.", "receiver", "severity", "outcome"
        )
        self.pending = self.gauge("notifications_pending", "Notifications not delivered yet.", "receiver")
        self.last_success = self.gauge(
            "notification_last_success_timestamp_seconds", "When a receiver took one last (Unix time).", "receiver"
        )


def _version() -> str:
    try:
        return version("gridwatch")
    except PackageNotFoundError:  # run from the zip of spark-submit
        return "unknown"
