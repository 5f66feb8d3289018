"""Event-time sliding windows: the features of one meter over one window, as numbers only."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from pipelines.tables import BASELINES, METER_WINDOWS
from pipelines.transforms.profiles import without_profiles


def countable(readings: DataFrame) -> DataFrame:
    """The readings that windows are made of: neither late nor re-sent."""
    return readings.where(~F.col("is_late") & ~F.col("is_resent"))


def summarise_windows(readings: DataFrame, *, window_s: float, slide_s: float) -> DataFrame:
    """Features of every (meter, window), in the columns of meter_windows.

    In: countable readings with meter_id, event_ts, the measurements, is_plausible and is_in_band. Windows are
    [window_start, window_end), every `slide_s`, aligned to the epoch. The last slide of a window is its tested
    part, what lies before is its baseline part; residual_v and feeder_std_v are null until `compare_with_feeder`.
    State on a stream: one row of numbers a meter and open window.
    """
    bounds = F.window("event_ts", _interval(window_s), _interval(slide_s))
    placed = readings.withColumn("bounds", bounds)
    is_tested = F.unix_millis("event_ts") >= F.unix_millis(F.col("bounds")["end"]) - F.lit(int(slide_s * 1000))
    grouped = placed.withColumn("is_tested", is_tested).groupBy("bounds", "meter_id").agg(*_features())
    return grouped.select(
        "*",
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


def _features() -> list[Column]:
    plausible, in_band, tested = F.col("is_plausible"), F.col("is_in_band"), F.col("is_tested")
    voltage, current, temperature = F.col("voltage_v"), F.col("current_a"), F.col("temperature_c")
    base, tested_in_band = F.when(in_band & ~tested, voltage), F.when(in_band & tested, voltage)
    tested_plausible, usable = F.when(plausible & tested, voltage), F.when(plausible, voltage)
    return [
        F.count(F.lit(1)).alias("n"),
        F.count(base).alias("base_n"),
        F.avg(base).alias("base_mean_v"),
        F.stddev_samp(base).alias("base_std_v"),
        F.count(tested_in_band).alias("tested_n"),
        F.avg(tested_in_band).alias("tested_mean_v"),
        F.stddev_samp(tested_in_band).alias("tested_std_v"),
        F.min(tested_plausible).alias("tested_min_v"),
        F.max(tested_plausible).alias("tested_max_v"),
        F.min(F.when(plausible & tested & ~in_band, F.col("event_ts"))).alias("tested_out_ts"),
        F.avg(F.when(in_band & ~tested, current)).alias("base_mean_current_a"),
        F.min(F.when(plausible & tested, current)).alias("tested_min_current_a"),
        F.max(F.when(plausible & tested, current)).alias("tested_max_current_a"),
        F.max(F.when(plausible & tested, temperature)).alias("tested_max_temperature_c"),
        F.count(usable).alias("plausible_n"),
        F.avg(usable).alias("mean_v"),
        F.stddev_samp(usable).alias("std_v"),
        F.min(usable).alias("min_v"),
        F.max(usable).alias("max_v"),
        F.max(F.when(plausible, current)).alias("max_current_a"),
        F.min(F.when(plausible, temperature)).alias("min_temperature_c"),
        F.max(F.when(plausible, temperature)).alias("max_temperature_c"),
        F.max("event_ts").alias("last_event_ts"),
    ]


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


def _interval(seconds: float) -> str:
    return f"{round(seconds * 1000)} milliseconds"
