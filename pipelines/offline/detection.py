"""The whole detection over readings in order of time, part by part: the stages of the stream, one after the other.

What is kept from part to part is small: panes of one window, what the rules look back at, the latest reading of every
meter, and profiles. The judge needs the whole fleet of a window end: about 3 GB for a million meters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import polars as pl

from pipelines.anomalies.events import Event
from pipelines.lake.frames import empty
from pipelines.offline.spool import Spool
from pipelines.readings.flags import flag_readings
from pipelines.readings.judge import reading_events
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.readings.rules import ReadingRules
from pipelines.settings import Detection, Settings
from pipelines.tables import METER_WINDOWS, PROFILES
from pipelines.windows.features import features, sums_of_windows
from pipelines.windows.judge import WindowsJudge, named_by, no_history, window_events
from pipelines.windows.panes import empty_panes, partial_panes
from pipelines.windows.profiles import DAYS, profile_rows, profiles_of

READING = {
    "meter_id": pl.String(), "event_ts": pl.Datetime("us", "UTC"), "voltage_v": pl.Float64(),
    "current_a": pl.Float64(), "temperature_c": pl.Float64(), "status": pl.String(), "kafka_topic": pl.String(),
    "kafka_partition": pl.Int32(), "kafka_offset": pl.Int64(), "kafka_ts": pl.Datetime("us", "UTC"),
    "kafka_item": pl.Int32(), "is_late": pl.Boolean(), "is_resent": pl.Boolean(),
}  # fmt: skip
"""Columns of the table readings that the detection takes."""
SPAN_ROWS = 100_000
"""Rows of meter_windows that are judged at once; a single window end may have more."""
PROFILE_METERS = 10_000
"""Meters whose rows of a day are in memory at once for their profiles."""
_SLICE = 200_000


@dataclass(frozen=True)
class Detected:
    """Windows in the columns of their table, and AnomalyEvents."""

    windows: pl.DataFrame
    anomalies: list[Event]


class Detector:
    """The stages of the stream, with the history of what they have seen.

    The early flags (INFO of voltage_deviation, stage reading) depend on when a stream closes its windows and are left
    out; a reading that is a copy has no finding of its own.
    """

    def __init__(
        self,
        meters: pl.DataFrame,
        profiles: pl.DataFrame | None,
        *,
        settings: Settings,
        scratch: Path | None = None,
        fleet: pl.DataFrame | None = None,
    ) -> None:
        """In: the tables meters and profiles; None: profiles are taken from the days of the readings themselves, each
        day from the days before it. `scratch`: folder for what a large fleet's day is put aside in. `fleet`: the window
        ends of the whole fleet and its fleet_awake, where the readings are those of some of its feeders."""
        d = settings.detection
        self._detection, self._placed = d, placed_meters(meters, detection=d)
        self._rules, self._judge = ReadingRules(d), WindowsJudge(d, settings.incidents, meters)
        self._history, self._panes = no_history(), empty_panes()
        self._latest: pl.DataFrame | None = None
        self._latest_ms = self._judged_ms = -(2**62)
        self._known = empty(PROFILES) if profiles is None else profiles
        self._days = DayProfiles(settings, scratch) if profiles is None else None
        self._fleet = fleet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._days:
            self._days.close()

    def take(self, readings: pl.DataFrame, *, before_ms: int | None) -> Iterator[Detected]:
        """Findings of the readings, then, span by span, the windows that they close and what is found of these.

        In: READING, by time, none earlier than the `before_ms` of the call before, all earlier than `before_ms`, a
        multiple of the slide; None: there are no later ones. Windows up to the slide of the latest countable reading
        are closed: on a stream later ones would still be open, and the end of a file is no silence.
        """
        placed = self._placed_readings(readings)
        for rows in placed.filter(~pl.col("is_resent")).iter_slices(_SLICE):
            yield Detected(empty(METER_WINDOWS), reading_events(rows, self._rules))
        counted = self._count(placed)
        del placed
        until_ms = self._latest_ms + self._slide_ms
        if self._fleet is not None:
            until_ms = self._fleet["window_end"].dt.epoch("ms").max() or until_ms  # type: ignore[assignment]
        if before_ms is not None:
            until_ms = min(before_ms, until_ms)
        seen = counted if self._latest is None else pl.concat([self._latest, counted])
        yield from self._close(until_ms, seen)
        if before_ms is not None:
            self._latest = seen.unique("meter_id", keep="last")
            window = pl.duration(milliseconds=round(self._detection.window_s * 1000))
            self._panes = self._panes.filter((pl.col("pane_start") + window).dt.epoch("ms") > until_ms)

    @property
    def _slide_ms(self) -> int:
        return round(self._detection.slide_s * 1000)

    def _placed_readings(self, readings: pl.DataFrame) -> pl.DataFrame:
        timed = readings.with_columns(
            event_ms=pl.col("event_ts").dt.epoch("ms"), kafka_ms=pl.col("kafka_ts").dt.epoch("ms")
        )
        return attach_meters(timed, self._placed, detection=self._detection)

    def _count(self, placed: pl.DataFrame) -> pl.DataFrame:
        """Add the countable readings to the panes; returns them in the columns READING."""
        d = self._detection
        counted = countable(placed)
        if counted.height:
            self._latest_ms = max(self._latest_ms, counted["event_ms"].max())  # type: ignore[type-var, assignment]
            panes = partial_panes(flag_readings(counted, detection=d), slide_s=d.slide_s)
            self._panes = pl.concat([self._panes, panes])
        return counted.select(*READING)

    def _close(self, until_ms: int, seen: pl.DataFrame) -> Iterator[Detected]:
        """The windows that end later than those before and no later than `until_ms`; `seen` holds the latest reading
        of every meter before each of their ends."""
        for first_ms, last_ms in self._spans(until_ms):
            windows, fleet = self._windows(first_ms, last_ms), self._ends_of_fleet(first_ms, last_ms)
            if self._days:
                self._known = self._days.before(_day_of(first_ms), self._known)
            judged = self._judge.measure(windows, self._history, fleet)
            self._history = judged.history
            found = self._judge.window_findings(judged.measured, self._known)
            timed = seen.with_columns(event_ms=pl.col("event_ts").dt.epoch("ms")) if found else seen
            of_found = timed.join(named_by(found), on=["meter_id", "event_ms"], how="semi") if found else seen.clear()
            events = window_events(found, of_found) + self._judge.feeder_events(judged.measured)
            if self._days and judged.measured.height:
                self._days.add(judged.measured)
            yield Detected(judged.windows, events)
        self._judged_ms = max(self._judged_ms, until_ms)

    def _spans(self, until_ms: int) -> list[tuple[int, int]]:
        """First and last window end (epoch ms) of spans of one date each that hold about SPAN_ROWS windows."""
        if self._fleet is None:
            ends = _window_ends(self._panes.lazy(), self._detection)
        else:
            meters = self._history["meter_id"].n_unique() + self._panes["meter_id"].n_unique()
            ends = self._fleet.lazy().select(end_ms=pl.col("window_end").dt.epoch("ms"), len=pl.lit(meters))
        fresh = pl.col("end_ms").is_between(self._judged_ms + 1, until_ms)
        rows = ends.filter(fresh).group_by("end_ms").agg(pl.col("len").max()).sort("end_ms")
        day = pl.col("end_ms") // 86_400_000
        spans = rows.with_columns(day=day, span=pl.col("len").cum_sum().over(day) // SPAN_ROWS)
        bounds = spans.group_by("day", "span").agg(first=pl.col("end_ms").min(), last=pl.col("end_ms").max())
        return bounds.sort("first").select("first", "last").collect().rows()

    def _ends_of_fleet(self, first_ms: int, last_ms: int) -> pl.DataFrame | None:
        if self._fleet is None:
            return None
        return self._fleet.filter(pl.col("window_end").dt.epoch("ms").is_between(first_ms, last_ms))

    def _windows(self, first_ms: int, last_ms: int) -> pl.DataFrame:
        """The windows with an end from `first_ms` to `last_ms`."""
        d = self._detection
        start_ms, window_ms = pl.col("pane_start").dt.epoch("ms"), round(d.window_s * 1000)
        panes = self._panes.filter(start_ms.is_between(first_ms - window_ms, last_ms - 1))
        among = pl.col("window_end").dt.epoch("ms").is_between(first_ms, last_ms)
        sums = sums_of_windows(panes, window_s=d.window_s, slide_s=d.slide_s, among=among)
        return features(sums, window_s=d.window_s)


def countable(readings: pl.DataFrame) -> pl.DataFrame:
    """Those that windows count."""
    return readings.filter(~pl.col("is_late") & ~pl.col("is_resent"))


def _window_ends(panes: pl.LazyFrame, detection: Detection) -> pl.LazyFrame:
    """end_ms of every window that a pane belongs to, several times, with `len`, about how many meters it has."""
    slide_ms = round(detection.slide_s * 1000)
    counts = panes.group_by(pl.col("pane_start").dt.epoch("ms")).len()
    return pl.concat(
        counts.select(end_ms=pl.col("pane_start") + slide_ms * (back + 1), len="len")
        for back in range(round(detection.window_s / detection.slide_s))
    )


def _day_of(epoch_ms: int) -> date:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).date()


class DayProfiles:
    """Profiles of whole days, made when the next one begins; the rows of a day wait in memory, of a large fleet on
    disk."""

    def __init__(self, settings: Settings, scratch: Path | None) -> None:
        self._detection, self._scratch = settings.detection, scratch
        self._day: date | None = None
        self._spool: Spool | None = None

    def add(self, measured: pl.DataFrame) -> None:
        """Rows of one day, as `WindowsJudge.measure` makes them; no earlier day than before."""
        if self._spool is None:
            meters = measured["meter_id"].n_unique() if self._scratch else 0
            folder = (self._scratch or Path()) / "profiles.tmp"
            self._spool = Spool(folder, 1 + meters // PROFILE_METERS)
            self._day = measured["window_date"][-1]
        rows = profile_rows(measured, detection=self._detection)
        self._spool.add(rows, rows["meter_id"].hash(1) % self._spool.parts)

    def made(self) -> pl.DataFrame:
        """The profiles of the day whose rows were added, which are dropped."""
        if self._spool is None:
            return empty(PROFILES)
        with self._spool as spool:
            rows = (spool.take(number) for number in range(spool.parts))
            made = [profiles_of(some, detection=self._detection) for some in rows if some is not None]
        self._spool = self._day = None
        return pl.concat([empty(PROFILES), *made])

    def before(self, day: date, known: pl.DataFrame) -> pl.DataFrame:
        """`known` with the profiles of the days before `day`, without those that are too old to matter."""
        if self._day is None or self._day == day:
            return known
        recent = pl.concat([known, self.made()])
        return recent.filter((pl.lit(day) - pl.col("profile_date")).dt.total_days() <= DAYS)

    def close(self) -> None:
        """Drop what was not made."""
        if self._spool is not None:
            with self._spool:
                self._spool = None


def build(
    readings: pl.DataFrame, meters: pl.DataFrame, profiles: pl.DataFrame | None, *, settings: Settings
) -> Detected:
    """The detection over readings (READING) that fit in memory, in any order. See `Detector` for the others."""
    ordered = readings.select(*READING).sort("event_ts", maintain_order=True)
    with Detector(meters, profiles, settings=settings) as detector:
        parts = list(detector.take(ordered, before_ms=None))
    windows = pl.concat([empty(METER_WINDOWS), *(part.windows for part in parts)])
    return Detected(windows, [event for part in parts for event in part.anomalies])
