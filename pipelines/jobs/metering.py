"""The metrics of both jobs, put together: served, sampled and fed while a job runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from pyspark.sql import SparkSession

from pipelines.client_errors import as_ours
from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import RunRecord
from pipelines.jobs import archive, incidents
from pipelines.jobs.alerts_offsets import positions
from pipelines.jobs.alerts_watch import Watch
from pipelines.jobs.context import Say
from pipelines.jobs.jvm import jvm_pid
from pipelines.observe.grid import show_incidents, show_windows
from pipelines.observe.groups import GroupCommits
from pipelines.observe.lag import BrokerEnds, LagCollector
from pipelines.observe.metrics import AlertsMetrics, JobMetrics, PipelineMetrics
from pipelines.observe.progress import Offsets, Positions, follow_progress, take_progress
from pipelines.observe.resources import Resources, checkpoint_sizes, sample_jvm
from pipelines.observe.sampler import Sampler
from pipelines.observe.serve import served
from pipelines.settings import Settings
from pipelines.small_tables import highest_value, moment, read_rows, table_version
from pipelines.tables import INCIDENTS, METER_WINDOWS, METERS
from pipelines.topics import topic_offsets
from pipelines.windows import query as windows
from pipelines.write_times import listening

ALERTS = "alerts"
_CHECKPOINT_EVERY = 4
"""Every so many samples the files of the checkpoint are counted."""


@contextmanager
def metered_pipeline(spark: SparkSession, settings: Settings, record: RunRecord, say: Say) -> Iterator[PipelineMetrics]:
    """The pipeline's metrics, served from here to the end of the block, however often the queries are started again.

    The tables must be there. Raises InfrastructureUnavailable when Kafka or the store does not answer.
    """
    metrics, pipeline = PipelineMetrics(), settings.pipeline
    with as_ours(settings):
        read = positions_at_start(settings, record)
        already_open = read_rows(settings, INCIDENTS, where="status = 'open'").to_pylist()
    metrics.prepare(
        {
            archive.QUERY: pipeline.archive_trigger,
            windows.QUERY: pipeline.windows_trigger,
            incidents.QUERY: pipeline.incidents_trigger,
        }
    )
    metrics.maintenance_interval.set(settings.upkeep.every)
    show_incidents(metrics, already_open, settings.metrics.feeders)
    folders = {query: record.folder(query) for query in (archive.QUERY, windows.QUERY, incidents.QUERY)}
    with _metered(spark, settings, say, metrics, read, folders) as samples:
        samples.append(GridSample(settings, metrics))
        with listening(metrics.time_sink), served(metrics.registry, settings.metrics.host, settings.metrics.port, say):
            yield metrics


@dataclass
class AlertsMetering:
    """The alerts job's metrics, and where it stands: by its heartbeats, and exactly at the end of each batch."""

    metrics: AlertsMetrics = field(default_factory=AlertsMetrics)
    topic: str = ""
    committed: Positions = field(default_factory=Positions)
    watch: Watch | None = None

    def follow(self, watch: Watch) -> None:
        """Another life of the query has begun."""
        if self.watch is not None:
            self.metrics.restarts.labels(ALERTS).inc()
        self.watch = watch
        self.metrics.heartbeat_age.set_function(lambda: watch.heartbeat_age_s)

    def read(self) -> dict[str, Offsets]:
        """Positions as the lag wants them."""
        beaten = self.watch.reached() if self.watch else {}
        done = self.committed.all().get(ALERTS, {}).get(self.topic, {})
        furthest = {part: max(beaten.get(part, 0), done.get(part, 0)) for part in {*beaten, *done}}
        return {ALERTS: {self.topic: furthest}}


@contextmanager
def metered_alerts(spark: SparkSession, settings: Settings, slots: int, say: Say) -> Iterator[AlertsMetering]:
    """The alerts job's metrics, served from here to the end of the block."""
    metering = AlertsMetering(topic=settings.kafka.topics.readings)
    metrics = metering.metrics
    metrics.prepare({ALERTS: settings.alerts.trigger})
    metrics.slots.set(slots)
    with (
        _metered(spark, settings, say, metrics, metering.committed, {}, metering.read),
        served(metrics.registry, settings.metrics.host, settings.metrics.alerts_port, say),
    ):
        yield metering


@contextmanager
def _metered(
    spark: SparkSession,
    settings: Settings,
    say: Say,
    metrics: JobMetrics,
    read: Positions,
    folders: Mapping[str, str],
    lag_from: Callable[[], Mapping[str, Offsets]] | None = None,
) -> Iterator[list[Callable[[], None]]]:
    """Progress, lag, resources and samples of a session; yields the list of samples, which may grow."""
    jvm = spark.sparkContext._jvm
    places = {"checkpoint": settings.pipeline.checkpoint, "lake": settings.lake.root}
    resources = Resources(places, pid=jvm_pid(spark))
    metrics.registry.register(resources)
    ends = BrokerEnds(settings.kafka)
    metrics.registry.register(LagCollector(ends, lag_from or read.all))
    samples: list[Callable[[], None]] = []
    if settings.metrics.consumer_group:
        samples.append(GroupCommits(settings.kafka, settings.metrics.consumer_group, read))
    samples.append(ResourceSample(resources, lambda: sample_jvm(jvm), settings.pipeline.checkpoint, folders))
    with ExitStack() as stack:
        stack.callback(ends.close)
        stack.callback(metrics.up.set, 0)
        stack.callback(follow_progress(spark, lambda progress: take_progress(progress, metrics, read)))
        stack.enter_context(Sampler(samples, settings.metrics.sample_every, say))
        yield samples


def positions_at_start(settings: Settings, record: RunRecord) -> Positions:
    """What the checkpoints say, or where a first start begins: the lag is known before the first batch is done."""
    topics = settings.kafka.topics
    files, read = CheckpointFiles(settings), Positions()
    begins = settings.pipeline.starting if record.start.offsets is None else record.start.offsets
    for query, names, starting in (
        (archive.QUERY, [topics.readings], begins),
        (incidents.QUERY, topics.of_incidents, "earliest"),
    ):
        committed = Batches.read(files, record.folder(query)).next_offsets() or {}
        there = {name: topic_offsets(settings.kafka, name) for name in names}
        read.put(query, {name: positions(committed.get(name, starting), there[name]) for name in names})
    return read


@dataclass
class ResourceSample:
    """Looks at the JVM each time and at the checkpoint now and then."""

    resources: Resources
    ask_jvm: Callable[[], object]
    checkpoint: str
    folders: Mapping[str, str]
    _calls: int = 0

    def __call__(self) -> None:
        """One look. The files first: a JVM that hangs would hold them up too."""
        if self._calls % _CHECKPOINT_EVERY == 0:
            self.resources.checkpoint = checkpoint_sizes(self.checkpoint, self.folders)
        self._calls += 1
        self.resources.jvm = self.ask_jvm()  # type: ignore[assignment]


@dataclass
class GridSample:
    """Reads the newest window end when the table meter_windows has changed."""

    settings: Settings
    metrics: PipelineMetrics
    _version: int = -1
    _nominal: dict[str, float] = field(default_factory=dict)

    def __call__(self) -> None:
        """One look: three columns of one window end, a row a meter."""
        version = table_version(self.settings, METER_WINDOWS)
        if version == self._version:
            return
        newest = highest_value(self.settings, METER_WINDOWS, "window_end")
        if newest is not None:
            self.metrics.set_age(self.metrics.window_end_age, newest.timestamp())
            where = f"window_date = '{newest.date()}' AND window_end = {moment(newest)}"
            rows = read_rows(self.settings, METER_WINDOWS, columns=["meter_id", "n", "mean_v"], where=where)
            worst = self.settings.metrics.worst_meters
            show_windows(self.metrics, rows, self._rated(), self.settings.detection, worst)
        self._version = version

    def _rated(self) -> dict[str, float]:
        """Un by meter; the table meters changes only before the queries start."""
        if not self._nominal:
            rows = read_rows(self.settings, METERS, columns=["meter_id", "nominal_voltage_v"]).to_pylist()
            self._nominal = {row["meter_id"]: row["nominal_voltage_v"] for row in rows if row["nominal_voltage_v"]}
        return self._nominal
