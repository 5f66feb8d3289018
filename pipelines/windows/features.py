"""Event-time sliding windows: sums of whole panes, and the features of a meter over one window made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import polars as pl
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.durations import interval
from pipelines.lake.frames import as_declared
from pipelines.tables import BASELINES, METER_WINDOWS
from pipelines.windows.panes import FIGURES, MIDDLE_V

Merge = Literal["sum", "min", "max"]
Part = Literal["whole", "base", "tested"]


@dataclass(frozen=True)
class WindowSum:
    """One column of a window's sums: a figure of its panes, merged over the whole window, its last slide (tested), or
    what lies before that (base)."""

    name: str
    figure: str
    part: Part

    @property
    def merge(self) -> Merge:
        """As the figure merges."""
        return _MERGES[self.figure]

    @property
    def is_count(self) -> bool:
        """Counts are 0 where a part has no pane, other sums null."""
        return self.name == "n" or self.name.endswith("_n")


def _moments(name: str, figure: str, part: Part) -> list[WindowSum]:
    return [WindowSum(f"{name}_{moment}", f"{figure}_{moment}", part) for moment in ("n", "sum", "squares")]


_MERGES: dict[str, Merge] = {figure.name: figure.merge for figure in FIGURES}

SUMS: tuple[WindowSum, ...] = (
    WindowSum("n", "n", "whole"),
    *_moments("base", "in_band", "base"),
    *_moments("tested", "in_band", "tested"),
    *_moments("plausible", "plausible", "whole"),
    WindowSum("base_current_n", "in_band_current_n", "base"),
    WindowSum("base_current_sum", "in_band_current_sum", "base"),
    WindowSum("tested_min_v", "least_v", "tested"),
    WindowSum("tested_max_v", "most_v", "tested"),
    WindowSum("tested_out_ts", "out_ts", "tested"),
    WindowSum("tested_min_current_a", "least_a", "tested"),
    WindowSum("tested_max_current_a", "most_a", "tested"),
    WindowSum("tested_max_temperature_c", "most_c", "tested"),
    WindowSum("min_v", "least_v", "whole"),
    WindowSum("max_v", "most_v", "whole"),
    WindowSum("max_current_a", "most_a", "whole"),
    WindowSum("min_temperature_c", "least_c", "whole"),
    WindowSum("max_temperature_c", "most_c", "whole"),
    WindowSum("last_event_ts", "last_ts", "whole"),
)
"""Everything that is summed over the panes of a window; what already is a feature has its name."""


def sums_in_spark(panes: DataFrame, *, window_s: float, slide_s: float) -> DataFrame:
    """The sums of every (meter, window): meter_id, window_end and SUMS.

    In: whole panes with meter_id, `pane` (a window of one slide) and the figures of `panes`.
    """
    sliding = F.window(F.window_time("pane"), interval(window_s), interval(slide_s))
    is_tested = F.col("pane")["end"] == F.col("bounds")["end"]
    placed = panes.withColumn("bounds", sliding).withColumn("is_tested", is_tested)
    sums = placed.groupBy("bounds", "meter_id").agg(*(_in_spark(one).alias(one.name) for one in SUMS))
    return sums.withColumn("window_end", F.col("bounds")["end"]).drop("bounds")


def sums_of_windows(
    panes: pl.DataFrame, *, window_s: float, slide_s: float, among: pl.Expr | None = None
) -> pl.DataFrame:
    """The same in Polars, of whole panes in the columns of the table: meter_id, pane_start and the figures.

    `among`: a condition on window_end; other windows are not made.
    """
    slides = round(window_s / slide_s)
    ends = [
        panes.lazy().with_columns(
            window_end=pl.col("pane_start") + pl.duration(milliseconds=round(slide_s * 1000) * (back + 1)),
            is_tested=pl.lit(back == 0),
        )
        for back in range(slides)
    ]
    placed = pl.concat(ends) if among is None else pl.concat(ends).filter(among)
    return placed.group_by("meter_id", "window_end").agg(_in_polars(one).alias(one.name) for one in SUMS).collect()


def features(sums: pl.DataFrame, *, window_s: float) -> pl.DataFrame:
    """Features of every (meter, window) in the columns of meter_windows: means and sample standard deviations.

    In: meter_id, window_end and SUMS. Windows are [window_start, window_end). residual_v and feeder_std_v are null
    until `neighbours.compare_with_feeder`.
    """
    counts = [pl.col(one.name).fill_null(0).cast(pl.Int64) for one in SUMS if one.is_count]
    current_n = pl.col("base_current_n")
    derived = sums.with_columns(counts).with_columns(
        *_spread("plausible", "mean_v", "std_v"),
        *_spread("base", "base_mean_v", "base_std_v"),
        *_spread("tested", "tested_mean_v", "tested_std_v"),
        pl.when(current_n > 0).then(pl.col("base_current_sum") / current_n).alias("base_mean_current_a"),
        (pl.col("window_end") - pl.duration(milliseconds=round(window_s * 1000))).alias("window_start"),
        pl.col("window_end").dt.date().alias("window_date"),
    )
    return as_declared(derived, METER_WINDOWS)


def latest_baselines(windows: pl.DataFrame) -> pl.DataFrame:
    """The baseline a reading is compared with, one row per meter, in the columns of the table baselines: the in-band
    readings of its latest window.

    In: complete rows of meter_windows, with p99_deviation_v where there are profiles. Mean and standard deviation of
    both parts of the window are combined exactly (Chan, Golub, LeVeque 1979).
    """
    n = pl.col("base_n") + pl.col("tested_n")
    latest = windows.filter(pl.col("n") > 0).sort("window_end").unique("meter_id", keep="last", maintain_order=True)
    base_n, tested_n = pl.col("base_n"), pl.col("tested_n")
    total = _or_0(pl.col("base_mean_v") * base_n) + _or_0(pl.col("tested_mean_v") * tested_n)
    apart = _or_0(pl.col("base_mean_v") - pl.col("tested_mean_v"))
    squares = _squares("base") + _squares("tested") + apart**2 * base_n * tested_n / n
    combined = latest.filter(n > 0).with_columns(
        mean_v=total / n, std_v=pl.max_horizontal(squares / pl.max_horizontal(n - 1, 1), 0.0).sqrt(), n=n
    )
    return as_declared(combined.drop("phase", strict=False), BASELINES)


def _in_spark(one: WindowSum) -> Column:
    value = F.col(one.figure)
    is_tested = F.col("is_tested")
    if one.part != "whole":
        value = F.when(is_tested if one.part == "tested" else ~is_tested, value)
    return {"sum": F.sum, "min": F.min, "max": F.max}[one.merge](value)


def _in_polars(one: WindowSum) -> pl.Expr:
    value = pl.col(one.figure)
    if one.part != "whole":
        is_tested = pl.col("is_tested")
        value = value.filter(is_tested if one.part == "tested" else ~is_tested)
    if one.merge == "sum":  # Polars sums nothing to 0
        return pl.when(value.count() > 0).then(value.sum())
    return value.min() if one.merge == "min" else value.max()


def _spread(sums: str, mean: str, std: str) -> tuple[pl.Expr, pl.Expr]:
    """Mean (V) and sample standard deviation (V) of a count, a sum and a sum of squares; null without enough."""
    n, total, squares = (pl.col(f"{sums}_{moment}") for moment in ("n", "sum", "squares"))
    apart = pl.max_horizontal(squares - total * total / n, 0.0)
    return (
        pl.when(n > 0).then(total / n + MIDDLE_V).alias(mean),
        pl.when(n > 1).then((apart / (n - 1)).sqrt()).alias(std),
    )


def _squares(part: str) -> pl.Expr:
    return _or_0(pl.col(f"{part}_std_v") ** 2 * (pl.col(f"{part}_n") - 1))


def _or_0(value: pl.Expr) -> pl.Expr:
    return value.fill_null(0.0)
