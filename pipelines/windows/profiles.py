"""What is normal for one meter: the profile of a full day, and what the days before a window say of its meter."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import number
from pipelines.lake.frames import as_declared
from pipelines.settings import Detection
from pipelines.tables import PROFILES
from pipelines.windows.rules.sensor import stuck_sensor
from pipelines.windows.rules.shift import voltage_step

DAYS = 7
"""So many days before a window speak for the meter."""
FULL_DAY = 0.9
"""Part of a day's window ends that a meter must have reported in."""
ALARMS_AT_MOST = 0.1
"""A meter whose rules speak in more of its windows is like that: then these windows count too."""


def attach_profiles(windows: pl.DataFrame, profiles: pl.DataFrame) -> pl.DataFrame:
    """Adds p99_deviation_v, p99_noise_v and cadence_s (medians over the profiles of the 7 days before the
    window's date) and residual_offset_v (of the day before); each null where there is no such day: "no history"."""
    dates = windows.select("window_date").unique()
    aged = profiles.join(dates, how="cross").with_columns(
        age=(pl.col("window_date") - pl.col("profile_date")).dt.total_days()
    )
    medians = [pl.col(name).median() for name in ("p99_deviation_v", "p99_noise_v", "cadence_s")]
    known = (
        aged.filter(pl.col("age").is_between(1, DAYS))
        .group_by("meter_id", "window_date")
        .agg(*medians, pl.col("residual_offset_v").filter(pl.col("age") == 1).max())
    )
    return windows.join(known, on=["meter_id", "window_date"], how="left", maintain_order="left")


def profile_rows(measured: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Of rows as `judge.measure` makes them what `profiles_of` needs: a tenth of their size, so that a day of a large
    fleet can be put aside."""
    noise_limit = pl.col("nominal_voltage_v") * number(limits_of(detection).noise_pu)
    is_usual = stuck_sensor(detection).severity.is_null() & voltage_step(detection).severity.is_null()
    return measured.filter(pl.col("n") > 0).select(
        "meter_id",
        "n",
        "deviates",
        "noise_v",
        profile_date=pl.col("window_date"),
        own_deviation_v=pl.when(~pl.col("is_feeders")).then(pl.col("deviation_v").abs()),
        usual_v=pl.when(is_usual).then(pl.col("residual_v")),
        is_noisy=(pl.col("noise_v") > noise_limit).fill_null(value=False),
    )


def profiles_of(rows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Profiles of every meter and full day, in the columns of the table profiles.

    In: `profile_rows` of whole days. A day counts when the meter reported in 90 % of its possible
    window ends. The figures leave out windows in which the rule itself would speak, unless these are more than a tenth:
    a fault must not make its meter deaf the day after. residual_offset_v leaves out those of a stuck sensor and of a
    step however many they are: the day after, a meter that has come back must not look as if it had left. It is null
    when fewer than half of the day's windows are left.
    """
    d, usual = detection, pl.col("usual_v")
    figures = rows.group_by("meter_id", "profile_date").agg(
        pl.len().cast(pl.Int64).alias("windows"),
        _p99("own_deviation_v", unless="deviates").alias("p99_deviation_v"),
        _p99("noise_v", unless="is_noisy").alias("p99_noise_v"),
        pl.when(usual.count() * 2 >= pl.len()).then(usual.median()).alias("residual_offset_v"),
        (d.window_s / pl.col("n").median()).alias("cadence_s"),
    )
    return as_declared(figures.filter(pl.col("windows") >= FULL_DAY * 86_400 / d.slide_s), PROFILES)


def _p99(name: str, *, unless: str) -> pl.Expr:
    value, spoken = pl.col(name), pl.col(unless)
    is_rare = spoken.mean() <= ALARMS_AT_MOST
    quiet = value.filter(~spoken).quantile(0.99, "linear")
    return pl.when(is_rare).then(quiet).otherwise(value.quantile(0.99, "linear"))
