"""The queries of the pipeline job, started in their order: two of Spark, and the incidents."""

from __future__ import annotations

from dataclasses import dataclass, field

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.alerts.group import Group
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.findings import first_position
from pipelines.identity.record import RunRecord
from pipelines.incidents.query import IncidentsQuery
from pipelines.jobs.context import Run, Say
from pipelines.jobs.ending import Ending
from pipelines.jobs.failures import explain_failure
from pipelines.jobs.generation_start import resend_dead_letters
from pipelines.jobs.incidents_thread import IncidentsThread
from pipelines.observe.metrics import PipelineMetrics
from pipelines.readings.query import start_archive
from pipelines.settings import Settings
from pipelines.windows.query import start_windows


@dataclass(frozen=True)
class Started:
    """What runs."""

    spark: list[StreamingQuery]
    incidents: IncidentsThread


@dataclass(frozen=True)
class StartQueries:
    """Starts the queries of a run, each time with nothing remembered of the time before."""

    spark: SparkSession
    settings: Settings
    record: RunRecord
    say: Say
    ready: str
    ending: Ending
    metrics: PipelineMetrics
    _kept_up: dict[str, float] = field(default_factory=dict)

    def __call__(self) -> Started:
        """Archive, windows and incidents. The tables must be there."""
        run = Run.of(self.spark, self.settings, self.record, self.say, self.metrics, self._kept_up)
        run.end_when(self.ending.asked.is_set)
        try:
            self._send_again(run)
            queries = [self._start(run, pool) for pool in _STARTS]
            incidents = self._incidents(run)
        except (PySparkException, Py4JJavaError) as error:
            self.say(str(error))
            raise explain_failure(str(error), "the start of the queries") from None
        self.say(self.ready)
        return Started(queries, incidents)

    def _incidents(self, run: Run) -> IncidentsThread:
        settings, group = self.settings, Group(self.settings)
        first = first_position(settings, self.record)
        query = IncidentsQuery(
            settings, run.generation, self.metrics, self.say, first, group.committed, run.keep_up
        )  # fmt: skip
        return IncidentsThread(settings, query, on_end=group.close)

    def _start(self, run: Run, pool: str) -> StreamingQuery:
        self.spark.sparkContext.setLocalProperty("spark.scheduler.pool", pool)
        return _STARTS[pool](run)

    def _send_again(self, run: Run) -> None:
        """What the last batch of an earlier generation may not have sent; until the archive has done its first."""
        if run.start.resend and not CheckpointFiles(self.settings).numbers(f"{run.folder('archive')}/commits"):
            resend_dead_letters(run)


_STARTS = {"archive": start_archive, "windows": start_windows}
