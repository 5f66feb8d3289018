"""What every query of one run shares: session, settings, and the identity of the checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.identity.record import RunRecord, Start
from pipelines.identity.tables import audited_ends
from pipelines.jobs.ending import BatchNotBegun
from pipelines.jobs.pace import interval_s
from pipelines.jobs.upkeep_figures import show_upkeep
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import STORE_ERRORS, highest_value
from pipelines.sources import table
from pipelines.tables import METER_WINDOWS, Table
from pipelines.upkeep import look_after

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """One run of the pipeline job."""

    spark: SparkSession
    settings: Settings
    generation: str
    say: Say
    start: Start = field(default_factory=Start)
    folder: Callable[[str], str] = str
    """Checkpoint folder of a query, relative to `pipeline.checkpoint`."""
    metrics: PipelineMetrics = field(default_factory=PipelineMetrics)
    """Filled always, served only by the job; they outlive the run: a restart of the queries is another run."""
    _ends: list[Callable[[], bool]] = field(default_factory=list)
    _archived: dict[int, int] = field(default_factory=dict)
    kept_up: dict[str, float] = field(default_factory=dict)
    """When (monotonic seconds) each table was looked after; handed on when the queries start again."""

    @classmethod
    def of(
        cls, spark: SparkSession, settings: Settings, record: RunRecord, say: Say, metrics: PipelineMetrics,
        kept_up: dict[str, float],
    ) -> Run:  # fmt: skip
        """The run that a record describes."""
        return cls(spark, settings, record.generation, say, record.start, record.folder, metrics, kept_up=kept_up)

    def archived_offsets(self) -> dict[int, int]:
        """Next offset of each partition after what the archive has stored; read once, then told by the archive."""
        if not self._archived:
            self._archived.update(audited_ends(self.settings))
        return dict(self._archived)

    def archive_has(self, ends: Mapping[int, int]) -> None:
        """A batch of the archive is stored up to these offsets."""
        self._archived.update(ends)

    def end_when(self, is_asked: Callable[[], bool]) -> None:
        """No batch begins once this says so."""
        self._ends.append(is_asked)

    def batch(self, query: str, number: int) -> BatchId:
        """Identity of a micro-batch that begins now. Raises BatchNotBegun when the end was asked for."""
        if self._must_end():
            raise BatchNotBegun(f"batch {number} of query {query}")
        return BatchId(self.generation, query, number)

    def let_gather(self, began: float, *, readings: int, since_s: float) -> None:
        """Wait at the end of an archive batch until the next one is worth its cost; the end of the job ends the wait.

        `began`: monotonic seconds at which the batch began; `readings`: what it held, gathered in `since_s` seconds.
        A batch that took longer than its interval waits no more, so no slow batch becomes slower.
        """
        pipeline = self.settings.pipeline
        rate = readings / since_s if since_s > 0 else 0.0
        until = began + interval_s(rate, least_s=pipeline.archive_trigger, most_s=pipeline.quiet_trigger)
        while not self._must_end() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))

    def _must_end(self) -> bool:
        return any(is_asked() for is_asked in self._ends)

    def keep_up(self, *tables: Table) -> None:
        """Look after tables when `upkeep.every` has passed since the last time; for their owner, after its commits.

        What fails is said and tried again the next time: upkeep never ends a query.
        """
        every_s, now = self.settings.upkeep.every, time.monotonic()
        for owned in tables:
            last = self.kept_up.setdefault(owned.name, now)
            if not every_s or now - last < every_s:
                continue
            self.kept_up[owned.name] = now
            try:
                done = look_after(self.settings, owned)
            except STORE_ERRORS as error:
                self.say(f"upkeep of {owned.name} failed: {str(error).splitlines()[0]}")
                continue
            show_upkeep(self.metrics, done)
            self.say(f"upkeep of {owned.name}: {done.files} files, {done.compacted_files} made into larger ones")

    def table(self, name: str) -> DataFrame:
        """Newest version of a table."""
        return table(self.spark, self.settings, name)

    def latest_window_end(self, *, before: datetime | None) -> datetime | None:
        """Latest window end in the table meter_windows, or the latest one before a moment (UTC)."""
        highest: datetime | None = highest_value(self.settings, METER_WINDOWS, "window_end")
        if highest is None or before is None or highest < before:
            return highest
        earlier = self.table("meter_windows").where(F.col("window_end") < F.lit(before))
        latest: datetime | None = earlier.agg(F.max("window_end")).head()[0]  # type: ignore[index]
        return latest.replace(tzinfo=UTC) if latest else None

    def checkpoint(self, query: str) -> str:
        """Checkpoint folder of a query."""
        return checkpoint_path(self.settings, self.folder(query))


def checkpoint_path(settings: Settings, name: str) -> str:
    """A file or folder below `pipeline.checkpoint`."""
    return f"{settings.pipeline.checkpoint.rstrip('/')}/{name}"
