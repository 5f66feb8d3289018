"""Whom late and corrected readings concern: a batch differs from the tables also where only settings or fleet do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from pipelines.offline.recompute.changes import Row
from pipelines.offline.recompute.corrections import LATE
from pipelines.settings import Detection
from pipelines.windows.look_back import awake_part


@dataclass
class Concern:
    """What the readings of a span may have changed. Pieces of the span are shown to it in their order."""

    meters: frozenset[str]
    """Meters with a late or corrected reading, and all on a feeder of theirs."""
    feeders: frozenset[str]
    """The feeders of these."""
    has_late: bool
    is_fleets: bool = field(default=False)
    """Whether late readings change at which ends the fleet is heard, so which silences are said at all; known once all
    pieces are seen."""

    def windows(self, changes: pl.DataFrame, was: pl.DataFrame, now: pl.DataFrame) -> pl.DataFrame:
        """Of the rows of `window_changes` of a piece those that the readings may have changed: of their meters, and of
        every meter at window ends that only late readings have made. `was`, `now`: `heard` of the piece as stored and
        as a batch has it."""
        new = pl.Series(dtype=changes.schema["window_end"])
        if self.has_late:
            both = was.rename({"is_heard": "was"}).join(
                now.rename({"is_heard": "now"}), on="window_end", how="full", coalesce=True
            )
            differing = both.filter(pl.col("was").ne_missing(pl.col("now")))
            self.is_fleets = self.is_fleets or differing.height > 0
            new = differing.filter(pl.col("was").is_null())["window_end"]
        mine = pl.Series(sorted(self.meters), dtype=pl.String)
        return changes.filter(pl.col("meter_id").is_in(mine.implode()) | pl.col("window_end").is_in(new.implode()))

    def anomalies(self, rows: Iterable[Row]) -> list[Row]:
        """The same of anomalies of stages window and feeder."""
        return [row for row in rows if self._is_concerned(row)]

    def _is_concerned(self, row: Row) -> bool:
        of_feeder = row["stage"] == "feeder"
        is_silence = self.is_fleets and (of_feeder or row["anomaly_type"] == "meter_silent")
        return row["meter_id"] in self.meters or (of_feeder and row["feeder_id"] in self.feeders) or is_silence


def concern_of(corrected: pl.DataFrame, meters: pl.DataFrame) -> Concern:
    """In: meter_id and correction of the readings of a span; the table meters."""
    own = corrected["meter_id"].unique()
    of_own = meters.filter(pl.col("meter_id").is_in(own.implode()))
    feeders = of_own["feeder_id"].drop_nulls().unique()
    beside = meters.filter(pl.col("feeder_id").is_in(feeders.implode()))["meter_id"]
    has_late = bool((corrected["correction"] == LATE).any())
    return Concern(frozenset([*own, *beside]), frozenset(feeders), has_late)


def heard(windows: pl.DataFrame, detection: Detection) -> pl.DataFrame:
    """window_end and is_heard: whether enough of the fleet reports that a silence of one meter is its own."""
    return windows.select("window_end", is_heard=awake_part(detection) >= detection.min_reporting).unique()
