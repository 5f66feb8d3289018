"""Detection over files: readings and fleet in, windows, anomalies and incidents out. No JVM.

The readings are put into parts by time, of a very large fleet by groups of feeders, which are judged one after the
other: their order in the file does not matter, and neither readings nor results need to fit in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.dataset as ds

from pipelines.fleet import read_fleet
from pipelines.offline.detection import READING, Detected, Detector
from pipelines.offline.files import blocks
from pipelines.offline.groups import COUNTS, Group, fleet_awake, group_of, slides_of, window_ends
from pipelines.offline.match import Pace, mismatches, slower
from pipelines.offline.results import Results
from pipelines.offline.spool import MOST_PARTS, Spool
from pipelines.offline.survey import Survey, is_usable, part_of
from pipelines.settings import Settings
from pipelines.small_tables import Say, as_arrow
from pipelines.tables import METERS

PART_ROWS = 1_000_000
"""Readings that are in memory at once; a single slide, or a single feeder in all, may have more."""
FLEET_METERS = 300_000
"""A larger fleet does not fit in memory at once, a GB or so: it is judged by groups of feeders."""
_SAID_EVERY_S = 10.0
_FINITE = ("current_a", "temperature_c")


@dataclass(frozen=True)
class Outcome:
    """What was read and found."""

    readings: int
    refused: int
    repeated: int
    windows: int
    anomalies: dict[str, int]
    incidents: int
    notifications: int


def detect(
    settings: Settings, *, readings: ds.Dataset, found: Survey, fleet: Path | None, out: Path, say: Say
) -> Outcome:
    """Write `windows.parquet`, `anomalies.parquet` and `incidents.parquet` into the folder `out`.

    `found`: the survey of the readings. A reading without meter, time or finite voltage is refused and counted; of
    several readings of one meter and time the first of the file counts. More than PART_ROWS readings are put aside in
    `out` while the detection runs, about 20 bytes each. Raises SettingsError for a file that cannot be read.
    """
    known = read_fleet(fleet, settings.detection, option="--fleet") if fleet else []
    meters = pl.DataFrame(as_arrow(known, METERS))
    out.mkdir(parents=True, exist_ok=True)
    for line in mismatches(found, {row[0] for row in known} if fleet else None):
        say(f"warning: {line}")
    progress = _Progress(found.count, say)
    work = _Work(settings, readings, found, meters, out, progress)
    with Results(out) as results:
        for detected in work.by_groups() if len(found.meters) > FLEET_METERS else work.by_time():
            results.add(detected)
        every = [Pace(*row) for row in _paces(work.paces).select(Pace._fields).iter_rows()]
        kept, repeated = sum(pace.readings for pace in every), sum(pace.repeated for pace in every)
        say(f"{found.count:,} readings, {found.count - kept:,} refused, {repeated:,} repeated")
        for line in slower(every, settings.detection.cadence_s):
            say(f"warning: {line}")
        say(f"{results.windows:,} windows")
        incidents = results.finish(settings)
    by_type = dict(sorted(results.anomalies.items()))
    alerts = sum(row["alerts"] for row in incidents)
    return Outcome(found.count, found.count - kept, repeated, results.windows, by_type, len(incidents), alerts)


@dataclass
class _Work:
    settings: Settings
    readings: ds.Dataset
    found: Survey
    meters: pl.DataFrame
    out: Path
    progress: _Progress
    paces: list[pl.DataFrame] = field(default_factory=list)
    """`_pace_figures` of all meters, of what was judged so far."""

    def by_time(self) -> Iterator[Detected]:
        """The whole fleet, part by part in order of time."""
        edges = self.found.edges_ms(self.settings.detection.slide_s, max(PART_ROWS, self.found.count // MOST_PARTS))
        with (
            Spool(self.out / "readings.tmp", len(edges) + 1) as spool,
            Detector(self.meters, None, settings=self.settings, scratch=self.out) as detector,
        ):
            for rows in usable_rows(self.readings, self.progress.read):
                spool.add(rows, part_of(rows["ts"].dt.epoch("ms"), edges))
            for part, before_ms in enumerate([*edges, None]):
                of_part = spool.take(part)
                if of_part is None:
                    continue
                taken = as_readings(of_part)
                self.paces = [_paces([*self.paces, _pace_figures(taken)])]
                yield from detector.take(taken, before_ms=before_ms)
                self.progress.judged(taken)

    def by_groups(self) -> Iterator[Detected]:
        """Groups of whole feeders one after the other: the fleet as a whole is only counted."""
        d, slides = self.settings.detection, set[int]()
        groups = min(MOST_PARTS, self.found.count // PART_ROWS + 1)
        group, counts = Group(d, self.settings.incidents, self.meters, None), [pl.DataFrame(schema=COUNTS)]
        with Spool(self.out / "readings.tmp", groups) as spool:
            for rows in usable_rows(self.readings, self.progress.read):
                spool.add(rows, group_of(rows["meter_id"], self.meters, groups))
                slides.update(slides_of(as_readings(rows), detection=d))
            ends = window_ends(slides, detection=d)
            for number in range(groups):
                if (of_group := spool.take(number, again=True)) is not None:
                    counts.append(group.awake(as_readings(of_group), ends))
            fleet = fleet_awake(ends, pl.concat(counts))
            for number in range(groups):
                if (of_group := spool.take(number)) is not None:
                    taken = as_readings(of_group)
                    self.paces.append(_pace_figures(taken))
                    yield from group.detected(taken, fleet)
                    self.progress.judged(taken)


def usable_rows(readings: ds.Dataset, read: Callable[[int], None]) -> Iterator[pl.DataFrame]:
    """The rows that have a meter, a time and a finite voltage, in the columns of `files.SCHEMA` and the order of the
    file; `read` is told how many rows each piece had. Other measurements that are not finite are null."""
    for block in blocks(readings):
        rows = pl.DataFrame(block)
        usable = rows.filter((pl.col("meter_id").str.len_bytes() > 0) & is_usable())
        yield usable.with_columns(pl.when(pl.col(name).is_finite()).then(name).alias(name) for name in _FINITE)
        read(rows.height)


def as_readings(rows: pl.DataFrame) -> pl.DataFrame:
    """Usable rows of `files.SCHEMA`, all that there are of their times, as the detection takes them (READING), by time.

    is_late is false: a file has no arrival. kafka_offset is the row's number.
    """
    ordered = rows.sort("ts", "row_number")
    of_file = {
        "event_ts": pl.col("ts"),
        "kafka_offset": pl.col("row_number"),
        "is_late": pl.lit(value=False),
        "is_resent": ~pl.struct("meter_id", "ts").is_first_distinct(),
    }
    return ordered.select(
        of_file.get(name, pl.col(name) if name in ordered.columns else pl.lit(None)).cast(kind).alias(name)
        for name, kind in READING.items()
    )


def _pace_figures(readings: pl.DataFrame) -> pl.DataFrame:
    return readings.group_by("meter_id").agg(
        readings=pl.len(),
        repeated=pl.col("is_resent").sum(),
        first=pl.col("event_ts").min(),
        last=pl.col("event_ts").max(),
    )


def _paces(parts: list[pl.DataFrame]) -> pl.DataFrame:
    """Figures of several parts as one row per meter, with span_s."""
    figures = pl.concat(part.select("meter_id", "readings", "repeated", "first", "last") for part in parts)
    added = figures.group_by("meter_id").agg(
        pl.col("readings", "repeated").sum(), pl.col("first").min(), pl.col("last").max()
    )
    return added.with_columns(span_s=(pl.col("last") - pl.col("first")).dt.total_microseconds() / 1e6)


class _Progress:
    """A line every ten seconds of long work."""

    def __init__(self, total: int, say: Say) -> None:
        self._total, self._say = total, say
        self._read = self._judged = 0
        self._due = time.monotonic() + _SAID_EVERY_S

    def read(self, rows: int) -> None:
        self._read += rows
        self._tell(lambda: f"read {self._read:,} of {self._total:,} readings")

    def judged(self, readings: pl.DataFrame) -> None:
        self._judged += readings.height
        last: datetime = readings["event_ts"][-1]
        at = f"{last.astimezone(UTC):%Y-%m-%d %H:%M}"
        self._tell(lambda: f"judged {self._judged:,} of {self._total:,} readings, up to {at}")

    def _tell(self, line: Callable[[], str]) -> None:
        if time.monotonic() >= self._due:
            self._say(line())
            self._due = time.monotonic() + _SAID_EVERY_S
