"""Detection by groups of whole feeders, each in any process: what outgrows one runs group by group, or on Spark.

A group needs two things of the others: the window ends of the whole fleet, and which part of it is awake at each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import polars as pl

from pipelines.lake.frames import as_declared, empty
from pipelines.offline.detection import SPAN_ROWS, Detected, Detector, countable
from pipelines.settings import Detection, Incidents, Settings
from pipelines.tables import METER_WINDOWS
from pipelines.windows.fleet import complete_fleet
from pipelines.windows.look_back import is_awake

COUNTS = {"window_end": pl.Datetime("us", "UTC"), "followed": pl.Int64(), "awake": pl.Int64()}
"""Of one group: how many meters have a row at a window end, and how many of these are awake."""


@dataclass(frozen=True)
class Group:
    """The detection of one group of feeders; travels to other processes, so no setting with a secret is in it."""

    detection: Detection
    incidents: Incidents
    meters: pl.DataFrame
    profiles: pl.DataFrame | None
    """The tables; profiles as `Detector` takes them."""

    def awake(self, readings: pl.DataFrame, ends: pl.DataFrame, *, earlier: pl.DataFrame | None = None) -> pl.DataFrame:
        """COUNTS of the group. In: READING of the group, `window_ends` of the fleet; `earlier`: the group's rows of
        meter_windows of the latest window end before them."""
        d, known = self.detection, self.meters["meter_id"].cast(pl.String)
        rows = _latest(countable(readings), d)
        meters = max(1, rows["meter_id"].n_unique())
        earlier, counts = empty(METER_WINDOWS) if earlier is None else earlier, [pl.DataFrame(schema=COUNTS)]
        for span in ends.sort("window_end").iter_slices(max(1, SPAN_ROWS // meters)):
            of_span = rows.join(span, on="window_end", how="semi")
            whole = complete_fleet(
                as_declared(of_span, METER_WINDOWS), earlier, known, window_s=d.window_s, slide_s=d.slide_s, ends=span
            )
            earlier = whole.filter(pl.col("window_end") == span["window_end"].max())
            of_ends = whole.group_by("window_end").agg(followed=pl.len(), awake=is_awake(d).sum())
            counts.append(of_ends.select(pl.col(name).cast(kind) for name, kind in COUNTS.items()))
        return pl.concat(counts)

    def detected(self, readings: pl.DataFrame, fleet: pl.DataFrame) -> Iterator[Detected]:
        """What is found of the group. In: READING of the group, all there are, in any order; `fleet_awake` of the
        fleet."""
        settings = Settings.model_validate({"detection": self.detection, "incidents": self.incidents})
        ordered = readings.sort("event_ts", "kafka_partition", "kafka_offset", "kafka_item")
        with Detector(self.meters, self.profiles, settings=settings, fleet=fleet) as detector:
            yield from detector.take(ordered, before_ms=None)


def slides_of(readings: pl.DataFrame, *, detection: Detection) -> pl.Series:
    """Starts (epoch ms) of the slides with a countable reading."""
    slide_ms = round(detection.slide_s * 1000)
    return (countable(readings)["event_ts"].dt.epoch("ms") // slide_ms * slide_ms).unique()


def group_of(meter_ids: pl.Series, meters: pl.DataFrame, groups: int) -> pl.Series:
    """The group of each meter: one of its feeder, without a feeder one of its own id."""
    feeders = meters.select("meter_id", "feeder_id").unique("meter_id")
    homes = pl.DataFrame({"meter_id": meter_ids}).join(feeders, on="meter_id", how="left", maintain_order="left")
    return homes.select(pl.coalesce("feeder_id", "meter_id").hash(1) % groups).to_series()


def window_ends(slides_ms: Iterable[int], *, detection: Detection) -> pl.DataFrame:
    """The window ends (column window_end) of a fleet with countable readings in these slides (starts, epoch ms): those
    that are closed, as for `Detector.take`."""
    slide_ms = round(detection.slide_s * 1000)
    starts = pl.Series("window_end", sorted(set(slides_ms)), dtype=pl.Int64)
    if starts.is_empty():
        return pl.DataFrame(schema={"window_end": COUNTS["window_end"]})
    last_ms = starts[-1] + slide_ms
    ends = pl.concat([starts + slide_ms * (back + 1) for back in range(round(detection.window_s / detection.slide_s))])
    closed = ends.filter(ends <= last_ms).unique().sort()
    return pl.DataFrame({"window_end": (closed * 1000).cast(COUNTS["window_end"])})


def fleet_awake(ends: pl.DataFrame, counts: pl.DataFrame) -> pl.DataFrame:
    """window_end and fleet_awake of the fleet, of the COUNTS of all its groups."""
    added = counts.group_by("window_end").agg(pl.col("followed", "awake").sum())
    share = pl.when(pl.col("followed") == 1).then(1.0).otherwise(pl.col("awake") / pl.col("followed"))
    return ends.join(added, on="window_end", how="left").select("window_end", share.alias("fleet_awake"))


def _latest(readings: pl.DataFrame, d: Detection) -> pl.DataFrame:
    """meter_id, window_end, n and last_event_ts of every window with a reading."""
    slide = pl.duration(milliseconds=round(d.slide_s * 1000))
    slide_us = round(d.slide_s * 1_000_000)
    start = (pl.col("event_ts").dt.epoch("us") // slide_us * slide_us).cast(COUNTS["window_end"])
    of_slides = readings.group_by("meter_id", start.alias("start")).agg(n=pl.len(), last=pl.col("event_ts").max())
    of_ends = pl.concat(
        of_slides.select("meter_id", "n", "last", window_end=pl.col("start") + slide * (back + 1))
        for back in range(round(d.window_s / d.slide_s))
    )
    return of_ends.group_by("meter_id", "window_end").agg(pl.col("n").sum(), last_event_ts=pl.col("last").max())
