"""The whole fleet of a window end: a meter that sent nothing has a row too, so that its silence can be judged."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

import polars as pl

from pipelines.lake.frames import as_declared
from pipelines.tables import METER_WINDOWS

FOLLOWED_MS = 86_400_000
"""So long an unknown meter is followed after its latest reading."""
_MADE_UP = timedelta(days=31)
"""Of a longer gap the later window ends are not made up."""
_TIME = pl.Datetime("us", "UTC")


def complete_fleet(
    windows: pl.DataFrame,
    earlier: pl.DataFrame,
    known: pl.Series,
    *,
    window_s: float,
    slide_s: float,
    ends: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Adds a row with n = 0 for every meter that was seen before and is silent in a whole window.

    `windows`: rows of meter_windows of one or more window ends; `earlier`: meter_id, window_end and last_event_ts of
    the rows of the latest window end before them (empty at the first start); `known`: ids of the table meters. A meter
    is followed while `meters` has it, an unknown one for 24 hours. last_event_ts of every row is the meter's latest
    reading up to that window end, so silence needs no other memory than the previous rows.

    The clock of a fleet is its readings. Where one meter is the whole fleet, its silence stops the clock: the window
    ends that it missed, of a month at most, are added when it is back.

    `ends`: the window ends of the whole fleet (window_end), where the rows are those of some of its feeders.
    Out: sorted by window_end and meter.
    """
    seen = pl.concat([windows.select("meter_id"), earlier.select("meter_id")]).unique()
    came = (windows if ends is None else ends)["window_end"].unique().sort()
    if seen.height == 1 and ends is None:
        came = came.append(_missed(earlier["window_end"].unique().to_list() + came.to_list(), slide_s=slide_s))
    ends = _windows_of(came, window_s=window_s)
    before = earlier.select("meter_id", before_ts="last_event_ts")
    came_in = windows.drop("window_start", "window_date")
    rows = (
        seen.join(ends, how="cross")
        .join(came_in, on=["meter_id", "window_end"], how="left")
        .join(before, on="meter_id", how="left")
    )
    rows = rows.sort("window_end", "meter_id")
    latest = (
        pl.col("last_event_ts").cum_max().forward_fill().over("meter_id")
        if ends.height > 1
        else pl.col("last_event_ts")
    )
    filled = rows.with_columns(last_event_ts=pl.max_horizontal(latest, "before_ts"), n=pl.col("n").fill_null(0))
    age_ms = (pl.col("window_end") - pl.col("last_event_ts")).dt.total_milliseconds()
    is_known = pl.col("meter_id").is_in(known.implode())
    is_followed = (pl.col("n") > 0) | (is_known & (age_ms >= 0)) | age_ms.is_between(0, FOLLOWED_MS)
    return as_declared(filled.filter(is_followed), METER_WINDOWS)


def _missed(ends: list[datetime], *, slide_s: float) -> pl.Series:
    """The window ends that lie between those that came (ascending)."""
    slide = timedelta(seconds=slide_s)
    most = _MADE_UP // slide
    missed = [
        end + slide * step
        for end, following in pairwise(ends)
        for step in range(1, min((following - end) // slide, most + 1))
    ]
    return pl.Series("window_end", missed, dtype=_TIME)


def _windows_of(ends: pl.Series, *, window_s: float) -> pl.DataFrame:
    """window_start, window_end and window_date."""
    end = pl.col("window_end").cast(_TIME)
    start = end - pl.duration(milliseconds=round(window_s * 1000))
    return pl.DataFrame({"window_end": ends}).select(
        start.alias("window_start"), end, end.dt.date().alias("window_date")
    )
