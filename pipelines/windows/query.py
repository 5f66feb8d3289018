"""Query windows: the archive's panes to closed windows, baselines, window anomalies and the clock of incidents.

Spark counts (watermark, panes, sliding windows), Polars judges: the whole fleet of a window end at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import msgspec
import polars as pl
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.anomalies.events import Event, anomaly_record
from pipelines.broker.records import Record, send_records
from pipelines.durations import interval
from pipelines.jobs.context import Run
from pipelines.jobs.generation_start import only_new_windows
from pipelines.lake.delta import commit_files
from pipelines.lake.frames import empty
from pipelines.lake.parquet import DataFile, write_data_file
from pipelines.lake.store import object_store
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import moment, read_rows, replace_rows_once
from pipelines.sources import table_stream
from pipelines.tables import BASELINES, METER_WINDOWS, METERS, PANES, PROFILES
from pipelines.windows.features import features, latest_baselines, sums_in_spark
from pipelines.windows.judge import Judged, WindowsJudge, no_history, remembered, window_events
from pipelines.windows.latest import latest_readings
from pipelines.windows.look_back import REMEMBERED, span_needed_s
from pipelines.windows.panes import merged_in_spark
from pipelines.windows.profiles import DAYS, attach_profiles

QUERY = "windows"

SPAN_ROWS = 1_000_000
"""Rows of closed windows that the driver takes and judges at once, the completed fleet counted; one window end may be
more."""


def own_panes(run: Run) -> DataFrame:
    """The stream of the generation's panes, from the version on at which it began.

    Never from an initial snapshot, whose order of files is not that of the batches. A batch of the archive is one file,
    which no limit of the source divides. Files that the archive deletes when they are old are passed over; a commit
    that changes rows stops the query.
    """
    panes = table_stream(run.spark, run.settings, PANES.name, since_version=run.start.panes_version or 0)
    return panes.where(F.col("generation") == run.generation)


def build(panes: DataFrame, settings: Settings) -> DataFrame:
    """The plan: partial panes, watermark, whole panes, sliding windows. State: a row of numbers per meter and open pane
    or window. Out: meter_id, window_end and the sums of `features`.

    The event time of a partial pane is its latest reading, which lies in the pane's slide.
    """
    detection = settings.detection
    timed = panes.withWatermark("last_ts", interval(detection.watermark))
    placed = timed.withColumn("pane", F.window("last_ts", interval(detection.slide_s)))
    merged = (value.alias(name) for name, value in merged_in_spark().items())
    whole = placed.groupBy("pane", "meter_id").agg(*merged)
    return sums_in_spark(whole, window_s=detection.window_s, slide_s=detection.slide_s)


def closed_windows(run: Run) -> DataFrame:
    """The stream of the windows that the generation closes, as `build` makes them."""
    return only_new_windows(run, build(own_panes(run), run.settings))


def start_windows(run: Run) -> StreamingQuery:
    """Start the query over the table panes, from the start of the generation on or from the checkpoint."""
    writer = closed_windows(run).writeStream.queryName(QUERY).outputMode("append").foreachBatch(WindowsBatch(run).write)
    writer = writer.option("checkpointLocation", run.checkpoint(QUERY))
    return writer.trigger(processingTime=f"{run.settings.pipeline.windows_trigger} seconds").start()


@dataclass
class WindowsBatch:
    """Writes the window ends that one batch closed; all meters of one window end come in the same batch."""

    run: Run
    _judge: WindowsJudge = field(init=False)
    _history: tuple[int, pl.DataFrame] = field(init=False)
    """Number of the batch written last, and what the next one must remember of it and those before."""

    def __post_init__(self) -> None:
        settings = self.run.settings
        meters = pl.DataFrame(read_rows(settings, METERS))
        self._judge = WindowsJudge(settings.detection, settings.incidents, meters)
        self._history = (-2, no_history())

    def write(self, closed: DataFrame, number: int) -> None:
        """Sink of the stream: anomalies to Kafka, meter_windows, baselines, then ticks to Kafka.

        History is what the table holds before this batch's first window end, so a replay judges the same.
        """
        # Kept on disk and cut from its plan: the first action computes it, and each span of a large batch reads it.
        kept = closed.localCheckpoint(eager=False, storageLevel=StorageLevel.DISK_ONLY)
        counts = kept.groupBy("window_end").count().collect()
        ends = sorted((end.replace(tzinfo=UTC), rows) for end, rows in counts)
        if ends:
            self._write_ends(kept, ends, number)

    def _write_ends(self, kept: DataFrame, ends: Sequence[tuple[datetime, int]], number: int) -> None:
        run, settings, batch = self.run, self.run.settings, self.run.batch(QUERY, number)
        first, last = ends[0][0], ends[-1][0]
        history, profiles = self._history_before(first, number), self._profiles(first)
        parts = _Parts(settings)
        kafka, topics = settings.kafka, settings.kafka.topics
        for since, until in _spans(ends, fleet=history["meter_id"].n_unique()):
            rows = kept.where(F.col("window_end").between(F.lit(since), F.lit(until))).toArrow()
            judged = self._judge.measure(features(pl.DataFrame(rows), window_s=settings.detection.window_s), history)
            history = judged.history
            send_records(kafka, topics.anomalies, _records(self._events(judged, profiles)))
            parts.add(judged, profiles)
        parts.commit(batch)
        archived = run.archived_offsets()
        send_records(kafka, topics.ticks, _ticks((end for end, _ in ends), archived))
        self._history = number, history
        run.keep_up(METER_WINDOWS, BASELINES)
        run.say(f"windows batch {number}: {len(ends)} window ends up to {last:%H:%M:%S}")

    def _events(self, judged: Judged, profiles: pl.DataFrame) -> list[Event]:
        found = self._judge.window_findings(judged.measured, profiles)
        of_windows = window_events(found, latest_readings(found, self.run.settings))
        return [*of_windows, *self._judge.feeder_events(judged.measured)]

    def _history_before(self, first_end: datetime, number: int) -> pl.DataFrame:
        """What was remembered of the batch before; after a start read back: rows of earlier window ends as far back as
        a rule looks, and at least those of the latest one."""
        written, history = self._history
        if written == number - 1:
            return history
        latest = self.run.latest_window_end(before=first_end)
        if latest is None:
            return no_history()
        detection = self.run.settings.detection
        since = min(latest, first_end - timedelta(seconds=span_needed_s(detection)))
        where = (
            f"window_date >= '{since.date()}' AND window_end >= {moment(since)} AND window_end < {moment(first_end)}"
        )
        rows = read_rows(self.run.settings, METER_WINDOWS, columns=REMEMBERED, where=where)
        return remembered(pl.DataFrame(rows), detection=detection)

    def _profiles(self, first_end: datetime) -> pl.DataFrame:
        oldest = (first_end - timedelta(days=DAYS)).date()
        return pl.DataFrame(read_rows(self.run.settings, PROFILES, where=f"profile_date >= '{oldest}'"))


class _Parts:
    """What the spans of a batch leave: files of meter_windows that no version names yet, and baselines."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._objects = object_store(settings.lake.root, settings.store)
        self._files: list[DataFile] = []
        self._baselines = empty(BASELINES)

    def add(self, judged: Judged, profiles: pl.DataFrame) -> None:
        """The windows and baselines of a later span."""
        for of_date in judged.windows.partition_by("window_date"):
            self._files.append(write_data_file(of_date, METER_WINDOWS, self._objects))
        fresh = latest_baselines(attach_profiles(judged.measured, profiles, detection=self._settings.detection))
        both = pl.concat([fresh, self._baselines])
        self._baselines = both.unique("meter_id", keep="first", maintain_order=True)

    def commit(self, batch: BatchId) -> None:
        """Once per batch: a table that has the batch is skipped."""
        commit_files(self._settings, METER_WINDOWS, self._files, batch)
        replace_rows_once(self._baselines.to_arrow(), self._settings, BASELINES, batch)


def _spans(ends: Sequence[tuple[datetime, int]], *, fleet: int) -> Iterator[tuple[datetime, datetime]]:
    """First and last window end of spans of at most `SPAN_ROWS` rows, but at least one window end. `ends`: each with
    its rows, in order; `fleet`: the meters that have a row whether they sent anything or not."""
    first, last, rows = ends[0][0], ends[0][0], 0
    for end, came in ends:
        if rows and rows + max(came, fleet) > SPAN_ROWS:
            yield first, last
            first, rows = end, 0
        last, rows = end, rows + max(came, fleet)
    yield first, last


def _records(events: Sequence[Event]) -> Iterator[Record]:
    for event in events:
        yield anomaly_record(event, detected_ms=time.time_ns() // 1_000_000)


def _ticks(ends: Iterator[datetime], archived: Mapping[int, int]) -> Iterator[Record]:
    """Ticks with up to where the archive had read: what closed these windows lies before."""
    offsets = {"archived": {str(partition): offset for partition, offset in archived.items()}} if archived else {}
    for end in ends:
        yield None, msgspec.json.encode({"windowEnd": round(end.timestamp() * 1000)} | offsets), []
