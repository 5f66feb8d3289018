"""What a batch over the archive says of a span of window ends, with every reading in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.jobs.recompute.spans import Span, neighbours
from pipelines.readings.batch import reading_anomalies
from pipelines.settings import Settings
from pipelines.sources import table
from pipelines.tables import ANOMALIES
from pipelines.transforms.corrections import KEY, settle_readings
from pipelines.transforms.feeder_rules import feeder_anomalies, feeder_findings
from pipelines.transforms.profiles import attach_profiles
from pipelines.transforms.readings import attach_meters
from pipelines.transforms.topology import compare_with_feeder
from pipelines.transforms.window_rules import span_needed_s, window_anomalies, window_findings
from pipelines.transforms.windows import complete_fleet, summarise_windows


@dataclass(frozen=True)
class Answer:
    """Rows of meter_windows as stored and as a batch makes them, and the anomalies of the span that it finds, of
    stages window and feeder, in the columns of the table (its Kafka columns and detected_at null).

    `corrected`: meter_id and correction of its late and corrected readings, also of those outside the range asked for.
    """

    corrected: DataFrame
    before: DataFrame
    windows: DataFrame
    anomalies: DataFrame


@dataclass(frozen=True)
class Archive:
    """The tables of a lake as they were when the command began to read them."""

    spark: SparkSession
    settings: Settings
    ends: Sequence[datetime]
    """Window ends of meter_windows, sorted, as far as spans and their neighbours need them."""

    @cached_property
    def meters(self) -> DataFrame:
        """The table meters."""
        return table(self.spark, self.settings, "meters").persist()

    def answer(self, span: Span) -> Answer:
        """The same transforms as the stream's, over all ends of the span at once.

        The ends beside it are made too: they do not change, and an anomaly near an edge may belong to them.
        """
        detection = self.settings.detection
        low, high = neighbours(self.ends, span)
        readings = self._settled(low - timedelta(seconds=detection.window_s), high)
        made = summarise_windows(readings, window_s=detection.window_s, slide_s=detection.slide_s)
        is_inside = _within("window_end", span.first, span.last)
        is_asked = F.col("window_end").isin(low, high) | is_inside
        before = self._windows(span.first, span.last, inclusive=True)
        history, earlier = self._history(low)
        complete = complete_fleet(made.where(is_asked).localCheckpoint(), earlier, self.meters)
        placed = attach_meters(complete, self.meters, detection=detection)
        windows = compare_with_feeder(placed, detection=detection).localCheckpoint()
        found = self._judge(windows, history)
        corrected = readings.where(F.col("correction").isNotNull()).select("meter_id", "correction").distinct()
        anomalies = found.where(self.is_of(span)).localCheckpoint()
        return Answer(corrected.localCheckpoint(), before, windows.where(is_inside), anomalies)

    def is_of(self, span: Span) -> Column:
        """Whether an anomaly of stage window or feeder may belong to the span: it lies behind the end before it."""
        low = min(neighbours(self.ends, span)[0], span.first - timedelta(seconds=self.settings.detection.slide_s))
        of_days = _of_days("event_date", low, span.last)
        return of_days & (F.col("stage") != "reading") & _within("event_ts", low, span.last)

    def stored_anomalies(self, span: Span) -> DataFrame:
        """Those that the table has."""
        return table(self.spark, self.settings, "anomalies").where(self.is_of(span))

    def reading_anomalies(self, corrections: DataFrame) -> DataFrame:
        """Anomalies of stage reading of settled readings, but the early flag, which depends on when windows closed."""
        placed = attach_meters(corrections, self.meters, detection=self.settings.detection)
        return _as_table(reading_anomalies(placed, detection=self.settings.detection))

    def _judge(self, windows: DataFrame, history: DataFrame) -> DataFrame:
        settings, detection = self.settings, self.settings.detection
        known = attach_profiles(windows, table(self.spark, settings, "profiles"))
        placed = attach_meters(known, self.meters, detection=detection)
        findings = window_findings(placed, history, detection=detection, incidents=settings.incidents).localCheckpoint()
        feeders = feeder_anomalies(feeder_findings(placed, detection=detection))
        return _as_table(window_anomalies(findings, self._latest_of(findings)).unionByName(feeders))

    def _latest_of(self, findings: DataFrame) -> DataFrame:
        """The readings that findings name as the latest of their meter: long before the span for a silent one."""
        named = findings.select("meter_id", F.col("last_event_ts").alias("event_ts")).distinct()
        since, until = named.agg(F.min("event_ts"), F.max("event_ts")).head()  # type: ignore[misc]
        readings = table(self.spark, self.settings, "readings")
        if since is None:
            return readings.limit(0)
        near = readings.where(_of_days("event_date", since, until) & _within("event_ts", since, until))
        return settle_readings(near.join(F.broadcast(named), list(KEY), "left_semi").localCheckpoint())

    def _settled(self, since: datetime, until: datetime) -> DataFrame:
        readings = table(self.spark, self.settings, "readings")
        is_near = (F.col("event_ts") >= F.lit(since)) & (F.col("event_ts") < F.lit(until))
        return settle_readings(readings.where(_of_days("event_date", since, until) & is_near))

    def _history(self, first: datetime) -> tuple[DataFrame, DataFrame]:
        """Stored rows before a window end, as far back as a rule looks, and those of the latest of these ends."""
        since = first - timedelta(seconds=span_needed_s(self.settings.detection))
        latest = max((end for end in self.ends if end < first), default=None)
        history = self._windows(min(since, latest or since), first, inclusive=False)
        is_latest = F.lit(False) if latest is None else F.col("window_end") == F.lit(latest)
        return history, history.where(is_latest)

    def _windows(self, since: datetime, until: datetime, *, inclusive: bool) -> DataFrame:
        rows = table(self.spark, self.settings, "meter_windows")
        near = rows.where(_of_days("window_date", since, until) & _within("window_end", since, until))
        return near if inclusive else near.where(F.col("window_end") < F.lit(until))


def _as_table(anomalies: DataFrame) -> DataFrame:
    """The columns of the table anomalies."""
    columns = {c.name: F.lit(None).cast(c.type) for c in ANOMALIES.columns if c.name.startswith("kafka_")}
    dated = anomalies.withColumns(columns | {"event_date": F.col("event_ts").cast("date")})
    return dated.select(*ANOMALIES.column_names)


def _of_days(column: str, since: datetime, until: datetime) -> Column:
    return F.col(column).between(F.lit(since.date()), F.lit(until.date()))


def _within(column: str, since: datetime, until: datetime) -> Column:
    return F.col(column).between(F.lit(since), F.lit(until))
