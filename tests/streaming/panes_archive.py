"""Panes as the archive commits them, batch by batch, and the windows query over them: without Kafka and decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from pipelines.jobs.context import Run
from pipelines.lake.delta import commit_files
from pipelines.lake.frames import as_declared
from pipelines.lake.parquet import write_data_file
from pipelines.lake.store import object_store
from pipelines.readings.alignment import Alignment, BatchProgress
from pipelines.readings.flags import flag_readings
from pipelines.readings.held import HeldFile, split_panes, still_held
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows, read_rows
from pipelines.tables import METERS, PANES, READINGS
from pipelines.windows.fill import held_panes
from pipelines.windows.panes import merge_panes, partial_panes
from pipelines.windows.query import QUERY, WindowsBatch, closed_windows
from tests import frames
from tests.window_model import Reading


def follow_panes(run: Run) -> int:
    """A new query on the old checkpoint takes what is there and stops; returns the rows that Spark dropped."""
    writer = closed_windows(run).writeStream.queryName(QUERY).outputMode("append")
    writer = writer.foreachBatch(WindowsBatch(run).write).option("checkpointLocation", run.checkpoint(QUERY))
    query = writer.trigger(availableNow=True).start()
    try:
        query.awaitTermination()
    finally:
        states = [state for progress in query.recentProgress for state in progress["stateOperators"]]
        query.stop()
    return sum(state["numRowsDroppedByWatermark"] for state in states)


def commit_panes(run: Run, panes: pl.DataFrame, number: int) -> None:
    """The panes of one batch as one file; none, as a commit without a file."""
    rows = panes.with_columns(pl.lit(run.generation).alias("generation"), pl.lit(number, pl.Int64).alias("batch_id"))
    objects = object_store(run.settings.lake.root, run.settings.store)
    files = [write_data_file(rows, PANES, objects)] if rows.height else []
    commit_files(run.settings, PANES, files, BatchId(run.generation, "archive", number))


def archive_readings(run: Run, readings: pl.DataFrame, number: int) -> None:
    """A batch as the archive stores it: rows of the table readings, flagged here, and their panes, all released."""
    detection, meters = run.settings.detection, pl.DataFrame(read_rows(run.settings, METERS))
    placed = attach_meters(readings, placed_meters(meters, detection=detection), detection=detection)
    flagged = flag_readings(placed, detection=detection)
    append_rows(as_declared(flagged, READINGS).to_arrow(), run.settings, READINGS)
    archive_panes(run, flagged, number)


def archive_panes(run: Run, readings: pl.DataFrame, number: int) -> None:
    """The panes of flagged rows of the table readings, all of them released."""
    counted = readings.filter(~pl.col("is_late") & ~pl.col("is_resent"))
    rows = counted.with_columns(event_ms=pl.col("event_ts").dt.epoch("ms"))
    commit_panes(run, partial_panes(rows, slide_s=run.settings.detection.slide_s), number)


@dataclass
class PanesArchive:
    """What the archive remembers from batch to batch of readings of a topic's partitions."""

    run: Run
    state: Alignment = field(default_factory=Alignment)
    held: list[HeldFile] = field(default_factory=list)
    number: int = 0

    def is_late(self, reading: Reading) -> bool:
        """Whether a reading of the next batch is late."""
        before_ms = self.state.late_before_ms(self.run.settings.detection.watermark)
        return before_ms is not None and reading.event_ms < before_ms

    def commit(
        self,
        counted: Sequence[Reading],
        *,
        highest_ms: Mapping[int, int],
        ranges: Mapping[int, tuple[int, int]] | None = None,
        is_cut: bool = False,
    ) -> None:
        """One batch: its countable readings, the largest event time per partition, and whether more was waiting."""
        ranges = ranges or dict.fromkeys(highest_ms, (0, 1))
        before = self.state.aligned_ms
        self.state = self.state.after(BatchProgress(ranges, is_cut, highest_ms, dict.fromkeys(ranges, 1)))
        keeper = held_panes(self.run.settings, self.run.folder("held"))
        panes = partial_panes(as_frame(counted), slide_s=self.run.settings.detection.slide_s)
        released, later = split_panes(panes, self.state.aligned_ms)
        back = keeper.release(self.held, after_ms=before, up_to_ms=self.state.aligned_ms)
        self.held = [*still_held(self.held, self.state.aligned_ms), *keeper.hold(later, self.number)]
        commit_panes(self.run, merge_panes(pl.concat([released, back])), self.number)
        keeper.tidy(self.held)
        self.number += 1


def as_frame(readings: Sequence[Reading]) -> pl.DataFrame:
    """Readings of the model as the archive's workers hold them."""
    rows = pl.DataFrame(
        [vars(reading) for reading in readings],
        schema={
            "meter_id": pl.String, "event_ms": pl.Int64, "voltage_v": pl.Float64, "current_a": pl.Float64,
            "temperature_c": pl.Float64, "is_plausible": pl.Boolean, "is_in_band": pl.Boolean,
        },
    )  # fmt: skip
    return frames.possible(rows)
