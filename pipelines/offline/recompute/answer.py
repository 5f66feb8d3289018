"""What a batch over the archive says of a span of window ends, with every reading in its place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import polars as pl

from pipelines.anomalies.events import Event
from pipelines.offline.recompute.archive import Archive, moment_of
from pipelines.offline.recompute.spans import Span, neighbours
from pipelines.windows.features import features, sums_of_windows
from pipelines.windows.fill import Span as Stretch
from pipelines.windows.judge import Found, WindowsJudge, no_history, remembered
from pipelines.windows.look_back import REMEMBERED, span_needed_s
from pipelines.windows.panes import empty_panes, partial_panes
from pipelines.windows.profiles import DAYS

_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True)
class Piece:
    """Some window ends of a span, in order: rows of meter_windows as stored and as a batch makes them, and what it
    finds of windows and of feeders at these ends and those beside the span."""

    before: pl.DataFrame
    after: pl.DataFrame
    found: list[Found]
    of_feeders: list[Event]


@dataclass(frozen=True)
class Answer:
    """The judge over one span."""

    archive: Archive
    judge: WindowsJudge
    span: Span
    ends: Sequence[datetime]
    """Stored window ends, sorted, as far as the span and its neighbours need them."""
    fleet: pl.DataFrame | None = None
    """The window ends of the whole fleet and its fleet_awake, where the archive holds some of its feeders."""

    @property
    def is_asked(self) -> pl.Expr:
        """Whether a window_end is one of the span or beside it."""
        return self._is_inside | pl.col("window_end").is_in(self._edges)

    @property
    def _is_inside(self) -> pl.Expr:
        return pl.col("window_end").is_between(self.span.first, self.span.last)

    @property
    def readings(self) -> tuple[datetime, datetime]:
        """Event times of the readings that the span's windows, and those beside it, hold."""
        low, high = self._edges
        return low - timedelta(seconds=self.archive.settings.detection.window_s), high

    @property
    def earliest(self) -> datetime | None:
        """The earliest stored window end that the judge looks back at; None without one."""
        return self._history_since(self._edges[0])

    @property
    def _edges(self) -> tuple[datetime, datetime]:
        return neighbours(self.ends, self.span)

    def corrected(self) -> pl.DataFrame:
        """meter_id and correction of the span's late and corrected readings, also of those outside the range asked
        for."""
        nothing = pl.DataFrame(schema={"meter_id": pl.String(), "correction": pl.String()})
        found = [
            self.archive.settled(stretch).filter(pl.col("correction").is_not_null()).select("meter_id", "correction")
            for stretch in self._stretches()
        ]
        return pl.concat([nothing, *found]).unique()

    def pieces(self) -> Iterator[Piece]:
        """The span in pieces. The ends beside it are made too: they do not change, and an anomaly near an edge may
        belong to them."""
        detection, (low, high) = self.archive.settings.detection, self._edges
        is_inside = self._is_inside
        profiles = self.archive.profiles(low - timedelta(days=DAYS + 1))
        history, panes, done = self._history(low), empty_panes(), low - _MOMENT
        stretches = self._stretches()
        limits = [*(moment_of(later.since_ms) for later in stretches[1:]), high]
        for stretch, until in zip(stretches, limits, strict=True):
            panes = pl.concat([panes, partial_panes(self.archive.counted(stretch), slide_s=detection.slide_s)])
            sums = sums_of_windows(panes, window_s=detection.window_s, slide_s=detection.slide_s)
            made = features(sums, window_s=detection.window_s)
            is_due = self.is_asked & (pl.col("window_end") > done) & (pl.col("window_end") <= until)
            due, fleet = made.filter(is_due), None if self.fleet is None else self.fleet.filter(is_due)
            panes = panes.filter(pl.col("pane_start") > until - timedelta(seconds=detection.window_s))
            stored = self.archive.windows(done + _MOMENT, until + _MOMENT).filter(is_inside)
            done = until
            if due.height or (fleet is not None and fleet.height):
                judged = self.judge.measure(due, history, fleet)
                history = judged.history
                found = self.judge.window_findings(judged.measured, profiles)
                after, of_feeders = judged.windows.filter(is_inside), self.judge.feeder_events(judged.measured)
                yield Piece(stored, after, found, of_feeders)
            else:
                yield Piece(stored, stored.clear(), [], [])

    def _stretches(self) -> list[Stretch]:
        return self.archive.stretches(*self.readings)

    def _history(self, first: datetime) -> pl.DataFrame:
        """Stored rows before a window end, as far back as a rule looks, and those of the latest of these ends."""
        since = self._history_since(first)
        if since is None:
            return no_history()
        return remembered(self.archive.windows(since, first, REMEMBERED), detection=self.archive.settings.detection)

    def _history_since(self, first: datetime) -> datetime | None:
        latest = max((end for end in self.ends if end < first), default=None)
        reach = timedelta(seconds=span_needed_s(self.archive.settings.detection))
        return None if latest is None else min(first - reach, latest)
