"""What is normal for one meter: the profile of a full day. Rules use it from the next day on (`profiles`)."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.tables import PROFILES
from pipelines.transforms.limits import limits_of
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
    leaves out those of a stuck sensor and of a step however many they are: the day after, a meter that has come back
    must not look as if it had left. It is null when fewer than half of the day's windows are left.
    """
    limits = limits_of(detection)
    d = detection
    deviation = F.when(~F.col("is_feeders"), F.abs("deviation_v"))
    noise_limit = F.col("nominal_voltage_v") * limits.noise_pu
    is_elsewhere = stuck_sensor(d).isNotNull() | voltage_step(d).isNotNull()
    judged = measured.where(F.col("n") > 0).withColumn("is_elsewhere", is_elsewhere)
    by_day = judged.groupBy("meter_id", F.col("window_date").alias("profile_date"))
    figures = by_day.agg(
        F.count(F.lit(1)).alias("windows"),
        _p99(deviation, unless=F.col("deviates")).alias("p99_deviation_v"),
        _p99(F.col("noise_v"), unless=F.col("noise_v") > noise_limit).alias("p99_noise_v"),
        _offset().alias("residual_offset_v"),
        (F.lit(d.window_s) / F.median("n")).alias("cadence_s"),
    )
    possible = 86_400 / d.slide_s
    return figures.where(F.col("windows") >= FULL_DAY * possible).select(*PROFILES.column_names)


def _offset() -> Column:
    is_usual = ~F.col("is_elsewhere")
    usual_v = F.when(is_usual, F.col("residual_v"))
    return F.when(F.count(usual_v) * 2 >= F.count(F.lit(1)), F.median(usual_v))


def _p99(value: Column, *, unless: Column) -> Column:
    spoken = F.coalesce(unless, F.lit(False))
    is_rare = F.avg(F.when(spoken, 1.0).otherwise(0.0)) <= ALARMS_AT_MOST
    return F.when(is_rare, F.percentile(F.when(~spoken, value), 0.99)).otherwise(F.percentile(value, 0.99))
