"""A meter's row with its earlier rows beside it: joins of whole earlier window ends, never row windows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import datetime, timedelta

import polars as pl

from pipelines.settings import Detection

BY_WINDOW = ("plausible_n", "mean_v", "min_v", "max_v", "min_temperature_c")
"""Remembered of the disjoint windows before: `<name>_<k>` is k windows back, k = 0 the window itself."""
BY_SLIDE = ("tested_n", "tested_mean_v", "tested_std_v", "feeder_std_v", "residual_v")
"""Remembered of the tested parts before: `<name>_s<k>` is k slides back."""
NOISE_SLIDES = 5
EVEN_GAPS = 3
"""A cadence shows in gaps of which the longest is at most so many times the shortest; else one of them is a silence."""

REMEMBERED = ("meter_id", "window_end", "last_event_ts", *BY_WINDOW, *BY_SLIDE)
"""Columns of meter_windows that a later window end needs."""
_KEYS = ["meter_id", "window_end"]


def windows_in(seconds: float, d: Detection) -> int:
    """How many disjoint windows cover a span."""
    return max(1, -(-int(seconds) // int(d.window_s)))


def slides_in(seconds: float, d: Detection) -> int:
    """How many tested parts cover a span."""
    return max(1, -(-int(seconds) // int(d.slide_s)))


def span_needed_s(detection: Detection) -> float:
    """How far before a window end the rules look back, in seconds of window_end."""
    return max(
        (_windows_back(detection) - 1) * detection.window_s + detection.slide_s,
        max(slides_in(detection.drift_s, detection), _slides_back(detection)) * detection.slide_s,
    )


def look_back(
    rows: pl.DataFrame, history: pl.DataFrame, *, detection: Detection, fleet: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Adds what the meter's earlier rows say.

    In: complete rows of one or more window ends, in the columns of REMEMBERED at least; `history`: REMEMBERED of all
    rows of the window ends before them within `span_needed_s`, and of the latest one before them however old it is;
    `fleet`: window_end and fleet_awake of the whole fleet, where the rows are those of some of its feeders.
    Out: previous_end and previous_last_ts (the row at the window end before), `BY_WINDOW` and `BY_SLIDE` of the windows
    and tested parts before, residual_median_v and residual_n, tested_median_v and tested_parts over `drift_s`,
    least_gap_s (shortest step of the latest reading from one row to the next, in the rows before; null where the steps
    differ much, and for what was a silence of ERROR), and fleet_awake (`awake_part`).
    """
    d = detection
    past = pl.concat([history.select(REMEMBERED), rows.select(REMEMBERED)])
    ends = past["window_end"].unique().sort().to_list()
    judged = rows["window_end"].unique().sort().to_list()
    beside = _with_previous(rows, past, ends, judged)
    for names, mark, step_s, count in (
        (BY_WINDOW, "", d.window_s, _windows_back(d)),
        (BY_SLIDE, "s", d.slide_s, _slides_back(d)),
    ):
        beside = beside.with_columns(pl.col(name).alias(f"{name}_{mark}0") for name in names)
        for k in range(1, count):
            earlier = _moved(past, judged, timedelta(seconds=k * step_s))
            beside = _beside(
                beside, earlier.select(*_KEYS, *(pl.col(name).alias(f"{name}_{mark}{k}") for name in names))
            )
    # Where a slide is longer than the span, that slide is the span.
    drift_s = max(0.0, d.drift_s - d.slide_s)
    spans = _pairs(ends, judged, back_s=drift_s).join(
        past.select(*_KEYS, "residual_v", "tested_mean_v"), left_on="earlier", right_on="window_end"
    )
    medians = spans.group_by(_KEYS).agg(
        pl.col("residual_v").median().alias("residual_median_v"),
        pl.col("residual_v").count().alias("residual_n"),
        pl.col("tested_mean_v").median().alias("tested_median_v"),
        pl.col("tested_mean_v").count().alias("tested_parts"),
    )
    beside = _beside(_beside(beside, medians), _least_gaps(past, ends, judged, d))
    if fleet is not None:
        return beside.join(
            fleet.select("window_end", "fleet_awake"), on="window_end", how="left", maintain_order="left"
        )
    return beside.with_columns(fleet_awake=awake_part(d))


def awake_part(d: Detection) -> pl.Expr:
    """Part of the fleet that is awake at the row's window end; 1 for a fleet of one, whose silence shows later."""
    return pl.when(pl.len().over("window_end") > 1).then(is_awake(d).mean().over("window_end")).otherwise(1.0)


def is_awake(d: Detection) -> pl.Expr:
    """Whether the meter's latest reading is younger than half the limit of silence at the row's window end.

    When the way of the data breaks, nobody is awake any more before the first meter seems silent.
    """
    age_ms = (pl.col("window_end") - pl.col("last_event_ts")).dt.total_milliseconds()
    return age_ms < int(d.silent_after_s * 500)


def total(name: str, count: int) -> pl.Expr:
    """Sum of a remembered count over windows; null when one is missing."""
    return pl.sum_horizontal([pl.col(f"{name}_{k}") for k in range(count)], ignore_nulls=False)


def _with_previous(
    rows: pl.DataFrame, past: pl.DataFrame, ends: list[datetime], judged: list[datetime]
) -> pl.DataFrame:
    before = dict(zip(ends[1:], ends, strict=False))
    pairs = _frame([(end, before[end]) for end in judged if end in before])
    previous = pairs.join(past.select(*_KEYS, "last_event_ts"), left_on="earlier", right_on="window_end")
    return _beside(rows, previous.select(*_KEYS, previous_end="earlier", previous_last_ts="last_event_ts"))


def _least_gaps(past: pl.DataFrame, ends: list[datetime], judged: list[datetime], d: Detection) -> pl.DataFrame:
    """least_gap_s of the judged rows. A row less than the history holds: the first row's gap needs the row before it.
    Not the row itself: it may end a silence."""
    step = _frame(list(zip(ends[1:], ends, strict=False)))
    latest = past.select(*_KEYS, "last_event_ts")
    previous = step.join(latest, left_on="earlier", right_on="window_end").select(*_KEYS, before_ts="last_event_ts")
    both = latest.join(previous, on=_KEYS)
    gap_s = (pl.col("last_event_ts") - pl.col("before_ts")).dt.total_milliseconds() / 1000
    gaps = both.select(*_KEYS, gap_s=gap_s).filter((pl.col("gap_s") > 0) & (pl.col("gap_s") < d.silent_error_after_s))
    recent = _pairs(ends, judged, back_s=span_needed_s(d) - d.slide_s).filter(pl.col("earlier") < pl.col("window_end"))
    least, most = pl.col("gap_s").min(), pl.col("gap_s").max()
    spans = recent.join(gaps, left_on="earlier", right_on="window_end")
    return spans.group_by(_KEYS).agg(pl.when(most <= least * EVEN_GAPS).then(least).alias("least_gap_s"))


def _pairs(ends: list[datetime], judged: list[datetime], *, back_s: float) -> pl.DataFrame:
    """Every judged end with each of `ends` (ascending; `earlier`) from `back_s` before it on, itself included."""
    back = timedelta(seconds=int(back_s))
    spans = ((end, ends[bisect_left(ends, end - back) : bisect_right(ends, end)]) for end in judged)
    return _frame([(end, one) for end, span in spans for one in span])


def _frame(pairs: list[tuple[datetime, datetime]]) -> pl.DataFrame:
    kind = pl.Datetime("us", "UTC")
    return pl.DataFrame(pairs, schema={"window_end": kind, "earlier": kind}, orient="row")


def _moved(past: pl.DataFrame, judged: list[datetime], step: timedelta) -> pl.DataFrame:
    """The rows exactly `step` before each judged end, under that end."""
    wanted = pl.Series([end - step for end in judged], dtype=past.schema["window_end"])
    return past.filter(pl.col("window_end").is_in(wanted.implode())).with_columns(pl.col("window_end") + step)


def _beside(rows: pl.DataFrame, more: pl.DataFrame) -> pl.DataFrame:
    return rows.join(more, on=_KEYS, how="left", maintain_order="left")


def _windows_back(d: Detection) -> int:
    return windows_in(max(d.stuck_s, d.sustained_s, d.rise_s), d)


def _slides_back(d: Detection) -> int:
    return max(NOISE_SLIDES, slides_in(d.step_s, d))
