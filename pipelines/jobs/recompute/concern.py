"""Whom late and corrected readings concern: a batch differs from the tables also where only settings or fleet do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.corrections import LATE
from pipelines.transforms.window_rules.measures import awake_part


@dataclass(frozen=True)
class Concern:
    """What the readings of a span may have changed."""

    meters: DataFrame
    """meter_id: meters with a late or corrected reading, and all on a feeder of theirs."""
    feeders: DataFrame
    """feeder_id of these."""
    is_fleets: bool
    """Whether late readings change at which ends the fleet is heard, so which silences are said at all."""
    new_ends: Sequence[datetime]
    """Window ends that only late readings have made: every meter gets a row there."""

    def windows(self, changes: DataFrame) -> DataFrame:
        """Those rows of `window_changes` that the readings may have changed."""
        marked = changes.join(self.meters.withColumn("is_concerned", F.lit(True)), "meter_id", "left")
        is_new = F.col("window_end").isin(*self.new_ends) if self.new_ends else F.lit(False)
        return marked.where(F.col("is_concerned") | is_new).select(*changes.columns)

    def anomalies(self, anomalies: DataFrame) -> DataFrame:
        """The same of anomalies of stages window and feeder."""
        meters = self.meters.withColumn("is_meters", F.lit(True))
        feeders = self.feeders.withColumn("is_feeders", F.lit(True))
        marked = anomalies.join(meters, "meter_id", "left").join(feeders, "feeder_id", "left")
        of_feeder = F.col("stage") == "feeder"
        is_silence = F.lit(self.is_fleets) & (of_feeder | (F.col("anomaly_type") == "meter_silent"))
        concerned = F.col("is_meters") | (of_feeder & F.col("is_feeders")) | is_silence
        return marked.where(concerned).select(*anomalies.columns)


def concern_of(
    corrected: DataFrame, before: DataFrame, after: DataFrame, meters: DataFrame, *, detection: Detection
) -> Concern:
    """In: meter_id and correction of the readings of a span; its rows of meter_windows as stored and as made again;
    the table meters."""
    own = corrected.select("meter_id").distinct()
    feeders = meters.join(own, "meter_id", "left_semi").select("feeder_id").dropna().distinct().localCheckpoint()
    beside = meters.join(feeders, "feeder_id", "left_semi").select("meter_id")
    concerned = own.union(beside).distinct().localCheckpoint()
    if corrected.where(F.col("correction") == LATE).isEmpty():
        return Concern(concerned, feeders, is_fleets=False, new_ends=[])
    differing = _heard(before, "was", detection).join(_heard(after, "now", detection), "window_end", "full")
    ends = differing.where(~F.col("was").eqNullSafe(F.col("now"))).collect()
    new = [end["window_end"] for end in ends if end["was"] is None]
    return Concern(concerned, feeders, is_fleets=bool(ends), new_ends=new)


def _heard(windows: DataFrame, name: str, detection: Detection) -> DataFrame:
    """One row a window end: whether enough of the fleet reports that a silence of one meter is its own."""
    return windows.select("window_end", (awake_part(detection) >= detection.min_reporting).alias(name)).distinct()
