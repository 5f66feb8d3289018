"""Event-time sliding windows: the features of one meter over one window, as numbers only."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.tables import BASELINES, METER_WINDOWS
from pipelines.transforms.profiles import without_profiles
from pipelines.windows.panes import MIDDLE_V, panes_in_spark


def countable(readings: DataFrame) -> DataFrame:
    """The readings that windows are made of: neither late nor re-sent."""
    return readings.where(~F.col("is_late") & ~F.col("is_resent"))


def summarise_windows(readings: DataFrame, *, window_s: float, slide_s: float) -> DataFrame:
    """Features of every (meter, window), in the columns of meter_windows.

    In: countable readings with meter_id, event_ts, the measurements, is_plausible and is_in_band. Windows are
    [window_start, window_end), every `slide_s`, aligned to the epoch. The last slide of a window is its tested
    part, what lies before is its baseline part; residual_v and feeder_std_v are null until `compare_with_feeder`.
    A reading is counted once, in the pane of its slide, and the panes make up the windows. Files and recomputes come
    this way; the stream has its panes from the archive.
    """
    placed = readings.withColumn("pane", F.window("event_ts", interval(slide_s)))
    panes = placed.groupBy("pane", "meter_id").agg(*(value.alias(name) for name, value in panes_in_spark().items()))
    return windows_of_panes(panes, window_s=window_s, slide_s=slide_s)


def windows_of_panes(panes: DataFrame, *, window_s: float, slide_s: float) -> DataFrame:
    """Features of every (meter, window) in the columns of meter_windows, from whole panes: meter_id, `pane` (a window
    of one slide) and the figures of `windows.panes`. Definitions as in `summarise_windows`."""
    sliding = F.window(F.window_time("pane"), interval(window_s), interval(slide_s))
    is_tested = F.col("pane")["end"] == F.col("bounds")["end"]
    tested = panes.withColumn("bounds", sliding).withColumn("is_tested", is_tested)
    sums = tested.groupBy("bounds", "meter_id").agg(*(value.alias(name) for name, value in _sums().items()))
    return sums.select(
        "*",
        *_features(),
        F.col("bounds")["start"].alias("window_start"),
        F.col("bounds")["end"].alias("window_end"),
        F.col("bounds")["end"].cast("date").alias("window_date"),
        F.lit(None).cast("double").alias("residual_v"),
        F.lit(None).cast("double").alias("feeder_std_v"),
    ).select(*METER_WINDOWS.column_names)


def complete_fleet(windows: DataFrame, earlier: DataFrame, meters: DataFrame) -> DataFrame:
    """Adds a row with n = 0 for every meter that was seen before and is silent in a whole window.

    `windows`: the rows of one or more window ends; `earlier`: the rows of the latest window end before them
    (empty at the first start). A meter is followed while `meters` holds it, an unknown one for 24 hours.
    Every row's last_event_ts is the meter's latest reading up to that window end, so silence needs no other
    memory than the previous rows.
    """
    ends = windows.select("window_start", "window_end", "window_date").distinct()
    seen = windows.select("meter_id").union(earlier.select("meter_id")).distinct()
    expected = seen.crossJoin(F.broadcast(ends))
    before = earlier.select("meter_id", F.col("last_event_ts").alias("before_ts"))
    keys = ["meter_id", "window_start", "window_end", "window_date"]
    known = meters.select("meter_id", F.lit(True).alias("is_known"))
    in_order = Window.partitionBy("meter_id").orderBy("window_end").rowsBetween(Window.unboundedPreceding, 0)
    filled = (
        expected.join(windows, keys, "left")
        .join(before, "meter_id", "left")
        .join(known, "meter_id", "left")
        .withColumn("last_event_ts", F.greatest(F.max("last_event_ts").over(in_order), "before_ts"))
        .withColumn("n", F.coalesce("n", F.lit(0)))
    )
    age = F.unix_millis("window_end") - F.unix_millis("last_event_ts")
    followed = (F.col("n") > 0) | (F.col("is_known") & (age >= 0)) | age.between(F.lit(0), F.lit(86_400_000))
    return filled.where(F.col("last_event_ts").isNotNull() & followed).select(*METER_WINDOWS.column_names)


def latest_baselines(windows: DataFrame) -> DataFrame:
    """The baseline a reading is compared with, one row a meter: the in-band readings of its latest window.

    Mean and standard deviation of both parts are combined exactly (Chan, Golub, LeVeque 1979). p99_deviation_v is
    that of `attach_profiles`, null without.
    """
    windows = without_profiles(windows)
    newest = windows.groupBy("meter_id").agg(F.max("window_end").alias("window_end"))
    latest = windows.join(newest, ["meter_id", "window_end"])
    n = F.col("base_n") + F.col("tested_n")
    mean = _combined_mean()
    combined = latest.where(n > 0).select(
        "meter_id",
        "window_start",
        "window_end",
        n.alias("n"),
        mean.alias("mean_v"),
        F.sqrt(F.greatest(_combined_squares() / F.greatest(n - 1, F.lit(1)), F.lit(0.0))).alias("std_v"),
        "p99_deviation_v",
    )
    return combined.select(*BASELINES.column_names)


def interval(seconds: float) -> str:
    """A length of time as Spark's windows and watermarks take it.

    >>> interval(0.5)
    '500 milliseconds'
    """
    return f"{round(seconds * 1000)} milliseconds"


def _sums() -> dict[str, Column]:
    """The panes of a window put together; what already is a feature has its name."""
    tested = F.col("is_tested")
    current_n, current = F.col("in_band_current_n"), F.col("in_band_current_sum")
    return {
        "n": F.sum("n"),
        **_summed("base", "in_band", ~tested),
        **_summed("tested", "in_band", tested),
        **_summed("plausible", "plausible", F.lit(True)),
        "base_current_n": F.sum(F.when(~tested, current_n)),
        "base_current_sum": F.sum(F.when(~tested, current)),
        "tested_min_v": F.min(F.when(tested, F.col("least_v"))),
        "tested_max_v": F.max(F.when(tested, F.col("most_v"))),
        "tested_out_ts": F.min(F.when(tested, F.col("out_ts"))),
        "tested_min_current_a": F.min(F.when(tested, F.col("least_a"))),
        "tested_max_current_a": F.max(F.when(tested, F.col("most_a"))),
        "tested_max_temperature_c": F.max(F.when(tested, F.col("most_c"))),
        "min_v": F.min("least_v"),
        "max_v": F.max("most_v"),
        "max_current_a": F.max("most_a"),
        "min_temperature_c": F.min("least_c"),
        "max_temperature_c": F.max("most_c"),
        "last_event_ts": F.max("last_ts"),
    }


def _features() -> list[Column]:
    """Means and sample standard deviations from the sums."""
    whole_mean, whole_std = _spread("plausible")
    base_mean, base_std = _spread("base")
    tested_mean, tested_std = _spread("tested")
    return [
        base_mean.alias("base_mean_v"),
        base_std.alias("base_std_v"),
        tested_mean.alias("tested_mean_v"),
        tested_std.alias("tested_std_v"),
        whole_mean.alias("mean_v"),
        whole_std.alias("std_v"),
        F.try_divide("base_current_sum", "base_current_n").alias("base_mean_current_a"),
    ]


def _summed(name: str, of: str, condition: Column) -> dict[str, Column]:
    """The same over the panes that meet a condition; the count is 0 where there are none."""
    parts = {part: F.sum(F.when(condition, F.col(f"{of}_{part}"))) for part in ("n", "sum", "squares")}
    return {f"{name}_{part}": F.coalesce(total, F.lit(0)) if part == "n" else total for part, total in parts.items()}


def _spread(name: str) -> tuple[Column, Column]:
    """Mean (V) and sample standard deviation (V) of a count, a sum and a sum of squares; null without enough."""
    n, total, squares = (F.col(f"{name}_{part}") for part in ("n", "sum", "squares"))
    apart = F.greatest(squares - total * total / n, F.lit(0.0))
    return F.when(n > 0, total / n + F.lit(MIDDLE_V)), F.when(n > 1, F.sqrt(apart / (n - 1)))


def _combined_mean() -> Column:
    base, tested = F.col("base_n"), F.col("tested_n")
    total = F.coalesce(F.col("base_mean_v") * base, F.lit(0.0)) + F.coalesce(
        F.col("tested_mean_v") * tested, F.lit(0.0)
    )
    return total / (base + tested)


def _combined_squares() -> Column:
    """Sum of squared distances from the combined mean."""

    def squares(std: str, n: str) -> Column:
        return F.coalesce(F.col(std) * F.col(std) * (F.col(n) - 1), F.lit(0.0))

    apart = F.coalesce(F.col("base_mean_v") - F.col("tested_mean_v"), F.lit(0.0))
    between = apart * apart * F.col("base_n") * F.col("tested_n") / (F.col("base_n") + F.col("tested_n"))
    return squares("base_std_v", "base_n") + squares("tested_std_v", "tested_n") + between
