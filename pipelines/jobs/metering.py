"""The metrics of the pipeline, put together: served, sampled and fed while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from pyspark.sql import SparkSession

from pipelines.alerts.group import Group
from pipelines.alerts.group_metrics import PATIENCE_S, GroupCollector
from pipelines.client_errors import as_ours
from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.findings import known_position
from pipelines.identity.record import RunRecord
from pipelines.identity.tables import noted_start
from pipelines.incidents.positions import QUERY as INCIDENTS_QUERY
from pipelines.jobs.context import Say
from pipelines.jobs.jvm import jvm_pid
from pipelines.observe.grid import show_incidents, show_windows
from pipelines.observe.groups import GroupCommits
from pipelines.observe.lag import BrokerEnds, LagCollector
from pipelines.observe.metrics import JobMetrics, PipelineMetrics
from pipelines.observe.progress import Positions, follow_progress, take_progress
from pipelines.observe.resources import Resources, checkpoint_sizes, sample_jvm
from pipelines.observe.sampler import Sampler
from pipelines.observe.serve import served
from pipelines.readings.carry_out import QUERY as ARCHIVE
from pipelines.settings import Settings
from pipelines.small_tables import highest_value, moment, read_rows, table_version
from pipelines.tables import INCIDENTS, METER_WINDOWS, METERS
from pipelines.topics import topic_offsets
from pipelines.windows.query import QUERY as WINDOWS
from pipelines.write_times import listening

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
            ARCHIVE: pipeline.archive_trigger,
            WINDOWS: pipeline.windows_trigger,
            INCIDENTS_QUERY: 0,
        }
    )
    metrics.maintenance_interval.set(settings.upkeep.every)
    show_incidents(metrics, already_open, settings.metrics.feeders)
    folders = {query: record.folder(query) for query in (ARCHIVE, WINDOWS)}
    with (
        Group(settings, patience_s=PATIENCE_S) as group,
        _metered(spark, settings, say, metrics, read, folders, GroupCollector(group)) as samples,
    ):
        samples.append(GridSample(settings, metrics))
        with listening(metrics.time_sink), served(metrics.registry, settings.metrics.host, settings.metrics.port, say):
            yield metrics


@contextmanager
def _metered(
    spark: SparkSession,
    settings: Settings,
    say: Say,
    metrics: JobMetrics,
    read: Positions,
    folders: Mapping[str, str],
    group: GroupCollector,
) -> Iterator[list[Callable[[], None]]]:
    """Progress, lag, resources and samples of a session; yields the list of samples, which may grow."""
    jvm = spark.sparkContext._jvm
    places = {"checkpoint": settings.pipeline.checkpoint, "lake": settings.lake.root}
    resources = Resources(places, pid=jvm_pid(spark))
    metrics.registry.register(resources)
    metrics.note_read = read.put
    ends = BrokerEnds(settings.kafka)
    metrics.registry.register(LagCollector(ends, lambda: read.all() | group.position()))
    metrics.registry.register(group)
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
    begins = record.start.offsets or noted_start(settings) or settings.pipeline.starting
    archived = Batches.read(files, record.folder(ARCHIVE)).next_offsets() or {}
    readings = topic_offsets(settings.kafka, topics.readings)
    read.put(ARCHIVE, {topics.readings: positions(archived.get(topics.readings, begins), readings)})
    there = {name: topic_offsets(settings.kafka, name) for name in topics.of_incidents}
    known = known_position(settings, record, there).offsets
    read.put(INCIDENTS_QUERY, {name: positions(known.get(name, {}), there[name]) for name in there})
    return read


def positions(starting: Mapping[int, int] | str, there: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """The offsets at which a start begins to read, as numbers.

    >>> positions({0: 5, 1: -2}, {0: (0, 9), 1: (3, 9)}), positions("latest", {0: (0, 9)})
    ({0: 5, 1: 3}, {0: 9})
    """
    if isinstance(starting, str):
        return {p: first if starting == "earliest" else end for p, (first, end) in there.items()}
    return {p: max(starting.get(p, first), first) for p, (first, _) in there.items()}


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
