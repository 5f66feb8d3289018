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
HOURLY = 0.5
"""Part of an hour's window ends that a meter without neighbours must have reported in."""
ALARMS_AT_MOST = 0.1
"""A meter whose rules speak in more of its windows is like that: then these windows count too."""


HOURS = 24
_OWN = {"hour_low_v": "own_low_v", "hour_high_v": "own_high_v", "hour_deviation_v": "own_deviation_v",
        "hour_noise_v": "own_noise_v"}  # fmt: skip
"""What a meter without neighbours did by hour of the day: the column of profiles, and of the hour of a window."""


def attach_profiles(windows: pl.DataFrame, profiles: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds p99_deviation_v, p99_noise_v and cadence_s (medians over the profiles of the 7 days before the
    window's date), residual_offset_v (of the day before), and own_low_v, own_high_v, own_deviation_v and own_noise_v
    (at the hour of the tested part, of meters without neighbours); each null where there is no such day: "no history".
    """
    dates = windows.select("window_date").unique()
    age = (pl.col("window_date") - pl.col("profile_date")).dt.total_days()
    aged = profiles.join(dates, how="cross").with_columns(age=age).filter(pl.col("age").is_between(1, DAYS))
    medians = [pl.col(name).median() for name in ("p99_deviation_v", "p99_noise_v", "cadence_s")]
    known = aged.group_by("meter_id", "window_date").agg(
        *medians, pl.col("residual_offset_v").filter(pl.col("age") == 1).max()
    )
    placed = windows.join(known, on=["meter_id", "window_date"], how="left", maintain_order="left")
    return _attach_hours(placed, aged, detection=detection)


def _attach_hours(windows: pl.DataFrame, aged: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """The figures of the hour, between the middles of two hours in proportion; `aged`: profiles with the window_date
    for which they count."""
    by_hour = aged.filter(pl.col("hour_low_v").is_not_null())
    if not by_hour.height or not windows.height:
        return windows.with_columns(pl.lit(None, pl.Float64).alias(name) for name in _OWN.values())
    day = ["meter_id", "window_date"]
    middle = pl.col("window_end") - pl.duration(seconds=detection.slide_s / 2 + 1800)
    timed = windows.with_columns(hour=middle.dt.hour().cast(pl.Int64), part=middle.dt.minute() / 60)
    pairs = [_of_hour(by_hour, day, hour) for hour in timed["hour"].unique()]
    placed = timed.join(pl.concat(pairs), on=[*day, "hour"], how="left", maintain_order="left")
    return placed.with_columns(
        (pl.col(name) * (1 - pl.col("part")) + pl.col(f"{name}_next") * pl.col("part")).alias(own)
        for name, own in _OWN.items()
    ).drop("hour", "part", *_OWN, *(f"{name}_next" for name in _OWN))


def _of_hour(by_hour: pl.DataFrame, day: list[str], hour: int) -> pl.DataFrame:
    """What is usual in an hour and in the next one (`*_next`; that of this one where it is not known)."""
    both = [
        by_hour.select(*day, *(pl.col(name).list.get(one) for name in _OWN))
        .group_by(day)
        .agg(_usual(name, at_most=name != "hour_low_v") for name in _OWN)
        for one in (hour, (hour + 1) % HOURS)
    ]
    joined = both[0].join(both[1], on=day, suffix="_next")
    following = (pl.coalesce(f"{name}_next", name).alias(f"{name}_next") for name in _OWN)
    return joined.with_columns(*following, hour=pl.lit(hour, pl.Int64))


def _usual(name: str, *, at_most: bool) -> pl.Expr:
    """Of the days' figures of an hour the largest (or least), of three and more the second: a day with a fault must not
    make the meter deaf for a week. Null for a single day: it does not show how far days differ."""
    value = pl.col(name)
    ranked = (value.top_k(2) if at_most else value.bottom_k(2)).sort(descending=at_most)
    chosen = pl.when(value.count() >= 3).then(ranked.last()).otherwise(ranked.first())
    return pl.when(value.count() >= 2).then(chosen).alias(name)


def profile_rows(measured: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Of rows as `judge.measure` makes them what `profiles_of` needs: a tenth of their size, so that a day of a large
    fleet can be put aside."""
    noise_limit = pl.col("nominal_voltage_v") * number(limits_of(detection).noise_pu)
    is_usual = stuck_sensor(detection).severity.is_null() & voltage_step(detection).severity.is_null()
    tested = pl.col("window_end") - pl.duration(seconds=detection.slide_s / 2)
    return measured.filter(pl.col("n") > 0).select(
        "meter_id",
        "n",
        "deviates",
        "noise_v",
        "tested_mean_v",
        "is_alone",
        hour=tested.dt.hour().cast(pl.Int64),
        profile_date=pl.col("window_date"),
        own_deviation_v=pl.when(~pl.col("is_feeders")).then(pl.col("deviation_v").abs()),
        usual_v=pl.when(is_usual).then(pl.col("residual_v")),
        is_noisy=(pl.col("noise_v") > noise_limit).fill_null(value=False),
    )


def profiles_of(rows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Profiles of every meter and day, in the columns of the table profiles.

    In: `profile_rows` of whole days. A day counts when the meter reported in 90 % of its possible window ends; by hour
    of the day, for meters without neighbours, an hour of which it reported half. The figures of the day leave out
    windows in which the rule itself would speak, unless these are more than a tenth: a fault must not make its meter
    deaf the day after. residual_offset_v leaves out those of a stuck sensor and of a
    step however many they are: the day after, a meter that has come back must not look as if it had left. It is null
    when fewer than half of the day's windows are left.
    """
    d, usual, day = detection, pl.col("usual_v"), ["meter_id", "profile_date"]
    figures = rows.group_by(day).agg(
        pl.len().cast(pl.Int64).alias("windows"),
        _p99("own_deviation_v", unless="deviates").alias("p99_deviation_v"),
        _p99("noise_v", unless="is_noisy").alias("p99_noise_v"),
        pl.when(usual.count() * 2 >= pl.len()).then(usual.median()).alias("residual_offset_v"),
        (d.window_s / pl.col("n").median()).alias("cadence_s"),
    )
    is_full = pl.col("windows") >= FULL_DAY * 86_400 / d.slide_s
    of_days = figures.with_columns(pl.when(is_full).then(pl.exclude(*day, "windows")))
    made = of_days.join(_hours(rows, detection=d), on=day, how="left")
    return as_declared(made.filter(is_full | pl.col("hour_low_v").is_not_null()), PROFILES)


def _hours(rows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """The figures by hour of meters that have no neighbours in most of their windows."""
    day = ["meter_id", "profile_date"]
    alone = rows.filter(pl.col("is_alone").mean().over(day) > 0.5)
    mean, deviation = pl.col("tested_mean_v"), pl.col("own_deviation_v")
    by_hour = alone.group_by(*day, "hour").agg(
        mean.quantile(0.05, "linear").alias("hour_low_v"),
        mean.quantile(0.95, "linear").alias("hour_high_v"),
        deviation.quantile(0.99, "linear").alias("hour_deviation_v"),
        pl.col("noise_v").quantile(0.99, "linear").alias("hour_noise_v"),
        windows=pl.len(),
    )
    reported = by_hour.filter(pl.col("windows") >= HOURLY * 3600 / detection.slide_s).drop("windows")
    every = reported.select(day).unique().join(pl.DataFrame({"hour": range(HOURS)}), how="cross")
    whole = every.join(reported, on=[*day, "hour"], how="left").sort("hour")
    return whole.group_by(day, maintain_order=True).agg(*_OWN)


def _p99(name: str, *, unless: str) -> pl.Expr:
    value, spoken = pl.col(name), pl.col(unless)
    is_rare = spoken.mean() <= ALARMS_AT_MOST
    quiet = value.filter(~spoken).quantile(0.99, "linear")
    return pl.when(is_rare).then(quiet).otherwise(value.quantile(0.99, "linear"))
