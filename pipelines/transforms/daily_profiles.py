"""What is normal for one meter: the profile of a full day. Rules use it from the next day on (`profiles`)."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.tables import PROFILES
from pipelines.transforms.window_rules.sensor import stuck_sensor
from pipelines.transforms.window_rules.shift import voltage_step

FULL_DAY = 0.9
"""Part of a day's window ends that a meter must have reported in."""
ALARMS_AT_MOST = 0.1
"""A meter whose rules speak in more of its windows is like that: then these windows count too."""


def daily_profiles(measured: DataFrame, *, detection: Detection) -> DataFrame:
    """Profiles of every meter and full day, in the columns of the table profiles.

    In: rows of meter_windows of whole days with the columns of `attach_meters` and `measure`. A day counts when the
    meter reported in 90 % of its possible window ends. The figures leave out windows in which the rule itself would
    speak, unless these are more than a tenth: a fault must not make its meter deaf the day after. residual_offset_v
    leaves out those of a stuck sensor however many they are, since they say nothing of the voltage; it is null when
    fewer than half of the day's windows are left.
    """
    d = detection
    deviation = F.when(~F.col("is_feeders"), F.abs("deviation_v"))
    noise_limit = F.col("nominal_voltage_v") * d.noise_pu
    odd = {"is_stuck": stuck_sensor(d).isNotNull(), "is_off": voltage_step(d).isNotNull()}
    by_day = (
        measured.where(F.col("n") > 0).withColumns(odd).groupBy("meter_id", F.col("window_date").alias("profile_date"))
    )
    figures = by_day.agg(
        F.count(F.lit(1)).alias("windows"),
        _p99(deviation, unless=F.col("deviates")).alias("p99_deviation_v"),
        _p99(F.col("noise_v"), unless=F.col("noise_v") > noise_limit).alias("p99_noise_v"),
        _offset().alias("residual_offset_v"),
        (F.lit(d.window_s) / F.median("n")).alias("cadence_s"),
    )
    possible = 86_400 / d.slide_s
    return figures.where(F.col("windows") >= FULL_DAY * possible).select(*PROFILES.column_names)


def _p99(value: Column, *, unless: Column) -> Column:
    return _percentile(value, 0.99, unless=unless)


def _offset() -> Column:
    is_stuck = F.col("is_stuck")
    measured = F.when(~is_stuck, F.col("residual_v"))
    is_known = F.count_if(~is_stuck) * 2 >= F.count(F.lit(1))
    return F.when(is_known, _percentile(measured, 0.5, unless=~is_stuck & F.col("is_off")))


def _percentile(value: Column, part: float, *, unless: Column) -> Column:
    spoken = F.coalesce(unless, F.lit(False))
    is_rare = F.avg(F.when(spoken, 1.0).otherwise(0.0)) <= ALARMS_AT_MOST
    return F.when(is_rare, F.percentile(F.when(~spoken, value), part)).otherwise(F.percentile(value, part))
