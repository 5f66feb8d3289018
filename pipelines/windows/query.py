"""Query windows: the archive's panes to closed windows, baselines, window anomalies and the clock of incidents."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.streaming.query import StreamingQuery

from pipelines.jobs.context import Run
from pipelines.jobs.generation_start import only_new_windows
from pipelines.settings import Settings
from pipelines.sinks import append_once, send
from pipelines.small_tables import read_rows, replace_rows_once
from pipelines.sources import table_stream
from pipelines.tables import BASELINES, METER_WINDOWS, PANES, PROFILES
from pipelines.transforms.anomalies import encode_anomalies, encode_events
from pipelines.transforms.feeder_rules import feeder_anomalies, feeder_findings
from pipelines.transforms.profiles import DAYS, attach_profiles
from pipelines.transforms.readings import attach_meters
from pipelines.transforms.topology import compare_with_feeder
from pipelines.transforms.window_rules import span_needed_s, window_anomalies, window_findings
from pipelines.transforms.windows import complete_fleet, interval, latest_baselines, windows_of_panes
from pipelines.windows.panes import merged_in_spark

QUERY = "windows"


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
    or window.

    The event time of a partial pane is its latest reading, which lies in the pane's slide.
    """
    detection = settings.detection
    timed = panes.withWatermark("last_ts", interval(detection.watermark))
    placed = timed.withColumn("pane", F.window("last_ts", interval(detection.slide_s)))
    merged = (value.alias(name) for name, value in merged_in_spark().items())
    whole = placed.groupBy("pane", "meter_id").agg(*merged)
    return windows_of_panes(whole, window_s=detection.window_s, slide_s=detection.slide_s)


def closed_windows(run: Run) -> DataFrame:
    """The stream of the windows that the generation closes, in the columns of meter_windows."""
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

    def write(self, closed: DataFrame, number: int) -> None:
        """Sink of the stream: meter_windows, baselines, then anomalies and ticks to Kafka.

        History is what the table holds before this batch's first window end, so a replay judges the same.
        """
        # Not persist(): of a cached frame every later action plans and compares the whole tree again.
        kept = closed.localCheckpoint()
        ends = sorted(row[0].replace(tzinfo=UTC) for row in kept.select("window_end").distinct().collect())
        if ends:
            self._write_ends(kept, ends, number)

    def _write_ends(self, closed: DataFrame, ends: list[datetime], number: int) -> None:
        settings, batch = self.run.settings, self.run.batch(QUERY, number)
        latest = self.run.latest_window_end(before=ends[0])
        history = self._history(ends[0], latest)
        earlier = history.where(F.col("window_end") == F.lit(latest))
        complete = complete_fleet(closed, earlier, self.run.meters)
        placed = attach_meters(complete, self.run.meters, detection=settings.detection)
        windows = compare_with_feeder(placed, detection=settings.detection).localCheckpoint()
        append_once(windows.coalesce(1), settings, METER_WINDOWS, batch)
        known = attach_profiles(windows, self._profiles(ends[0]))
        replace_rows_once(latest_baselines(known.where("n > 0")).toArrow(), settings, BASELINES, batch)
        self._send_anomalies(known, history)
        send(self._ticks(ends), settings, settings.kafka.topics.ticks)
        self.run.keep_up(METER_WINDOWS, BASELINES)
        self.run.say(f"windows batch {number}: {len(ends)} window ends up to {ends[-1]:%H:%M:%S}")

    def _history(self, first_end: datetime, latest: datetime | None) -> DataFrame:
        """Rows of earlier window ends, as far back as a rule looks and at least the latest one."""
        rows = self.run.table("meter_windows").where(F.col("window_end") < F.lit(first_end))
        if latest is None:
            return rows
        since = min(latest, first_end - timedelta(seconds=span_needed_s(self.run.settings.detection)))
        return rows.where((F.col("window_date") >= F.lit(since.date())) & (F.col("window_end") >= F.lit(since)))

    def _send_anomalies(self, windows: DataFrame, history: DataFrame) -> None:
        settings, detection = self.run.settings, self.run.settings.detection
        placed = attach_meters(windows, self.run.meters, detection=detection)
        findings = window_findings(placed, history, detection=detection, incidents=settings.incidents).localCheckpoint()
        anomalies = feeder_anomalies(feeder_findings(placed, detection=detection))
        since, until = findings.agg(F.min("last_event_ts"), F.max("last_event_ts")).head()  # type: ignore[misc]
        if since is not None:
            anomalies = anomalies.unionByName(window_anomalies(findings, self._readings_between(since, until)))
        send(encode_anomalies(anomalies), settings, settings.kafka.topics.anomalies)

    def _profiles(self, first_end: datetime) -> DataFrame:
        oldest = (first_end - timedelta(days=DAYS)).date()
        rows = read_rows(self.run.settings, PROFILES, where=f"profile_date >= '{oldest}'")
        return self.run.spark.createDataFrame(rows, PROFILES.schema)

    def _readings_between(self, since: datetime, until: datetime) -> DataFrame:
        readings = self.run.table("readings")
        return readings.where(
            F.col("event_date").between(F.lit(since.date()), F.lit(until.date()))
            & F.col("event_ts").between(F.lit(since), F.lit(until))
        )

    def _ticks(self, ends: list[datetime]) -> DataFrame:
        ticks = self.run.spark.createDataFrame([(end,) for end in ends], "window_end timestamp").coalesce(1)
        return ticks.select(encode_events(ticks, "window_tick").alias("value"))
