"""What the tables of a lake hold of a stretch of time, in pieces that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

import polars as pl

from pipelines.offline.recompute.corrections import settle_readings
from pipelines.readings.flags import add_possible
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Settings
from pipelines.small_tables import moment, read_rows, scan_rows
from pipelines.tables import ANOMALIES, METER_WINDOWS, METERS, PROFILES, READINGS, Table
from pipelines.windows.fill import Span as Stretch
from pipelines.windows.fill import spans_of
from pipelines.windows.latest import readings_at

PIECE_READINGS = 2_000_000
"""Readings in memory at once, about 500 MB; a single slide may have more."""


@dataclass(frozen=True)
class Archive:
    """The tables of a lake."""

    settings: Settings

    @cached_property
    def meters(self) -> pl.DataFrame:
        """The table meters."""
        return pl.DataFrame(read_rows(self.settings, METERS))

    @cached_property
    def _placed(self) -> pl.DataFrame:
        return placed_meters(self.meters, detection=self.settings.detection)

    def stretches(self, since: datetime, until: datetime) -> list[Stretch]:
        """[since, until) in stretches of at most PIECE_READINGS readings, each from edge to edge of a slide."""
        slide_ms = round(self.settings.detection.slide_s * 1000)
        counts: dict[int, int] = {}
        where = between(READINGS, "event_ts", since, until)
        for rows in scan_rows(self.settings, READINGS, columns=["event_ts"], where=where):
            slides = pl.DataFrame(rows)["event_ts"].dt.epoch("ms") // slide_ms
            for slide, count in slides.value_counts().iter_rows():
                counts[slide * slide_ms] = counts.get(slide * slide_ms, 0) + count
        return list(spans_of(sorted(counts.items()), slide_ms=slide_ms, limit=PIECE_READINGS))

    def settled(self, stretch: Stretch) -> pl.DataFrame:
        """The readings of a stretch, settled."""
        since, until = moment_of(stretch.since_ms), moment_of(stretch.until_ms)
        return settle_readings(self.read(READINGS, "event_ts", since, until))

    def counted(self, stretch: Stretch) -> pl.DataFrame:
        """The settled readings of a stretch as `partial_panes` takes them."""
        settled = self.settled(stretch).with_columns(event_ms=pl.col("event_ts").dt.epoch("ms"))
        d = self.settings.detection
        return add_possible(attach_meters(settled, self._placed, detection=d), detection=d)

    def settled_at(self, wanted: pl.DataFrame) -> pl.DataFrame:
        """The settled readings of `wanted`: meter_id and event_ms."""
        return settle_readings(readings_at(wanted, self.settings))

    def windows(self, since: datetime, until: datetime, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Rows of meter_windows with window ends in [since, until)."""
        return self.read(METER_WINDOWS, "window_end", since, until, columns)

    def anomalies(self, since: datetime, until: datetime) -> pl.DataFrame:
        """Rows of anomalies with event times in [since, until)."""
        return self.read(ANOMALIES, "event_ts", since, until)

    def profiles(self, since: datetime) -> pl.DataFrame:
        """Profiles of the days from `since` on."""
        return pl.DataFrame(read_rows(self.settings, PROFILES, where=f"profile_date >= '{since.date()}'"))

    def read(
        self, table: Table, column: str, since: datetime, until: datetime, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Rows of a table with a time in [since, until)."""
        where = between(table, column, since, until)
        return pl.DataFrame(read_rows(self.settings, table, columns=columns, where=where))

    def ends(self, since: datetime | None, until: datetime) -> list[datetime]:
        """Stored window ends in [since, until], in order."""
        where = between(METER_WINDOWS, "window_end", since, until + timedelta(microseconds=1))
        found: set[datetime] = set()
        for rows in scan_rows(self.settings, METER_WINDOWS, columns=["window_end"], where=where):
            found.update(pl.DataFrame(rows)["window_end"].unique().to_list())
        return sorted(found)

    def heard(self, meters: pl.DataFrame, since: datetime) -> pl.DataFrame:
        """meter_id, window_end and last_event_ts of rows with readings, of some meters, from a day on."""
        columns = ["meter_id", "window_end", "n", "last_event_ts"]
        where = f"window_date >= '{since.date()}' AND n > 0"
        pieces: Iterator[pl.DataFrame] = (
            pl.DataFrame(rows) for rows in scan_rows(self.settings, METER_WINDOWS, columns=columns, where=where)
        )
        mine = [rows.join(meters, on="meter_id", how="semi") for rows in pieces]
        return pl.concat([self.windows(*_NOWHERE, columns), *mine])


def moment_of(epoch_ms: int) -> datetime:
    """A time of epoch milliseconds, UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=epoch_ms)


_NOWHERE = (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC))


def between(table: Table, column: str, since: datetime | None, until: datetime) -> str:
    """A predicate on a time, and on the date by which the table is divided."""
    (day,) = table.partition_by
    upper = f"{day} <= '{until.date()}' AND {column} < {moment(until)}"
    return upper if since is None else f"{day} >= '{since.date()}' AND {column} >= {moment(since)} AND {upper}"
