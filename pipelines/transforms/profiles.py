"""What is known of a meter from its full days before: joined to the windows that are judged."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

DAYS = 7
"""So many days before a window speak for the meter."""
KNOWN = ("p99_deviation_v", "p99_noise_v", "residual_offset_v", "cadence_s")


def attach_profiles(windows: DataFrame, profiles: DataFrame) -> DataFrame:
    """Adds p99_deviation_v, p99_noise_v and cadence_s (medians over the profiles of the 7 days before the
    window's date) and residual_offset_v (of the day before); each null where there is no such day: "no history"."""
    ages = profiles.select("*", F.explode(F.sequence(F.lit(1), F.lit(DAYS))).alias("age"))
    dated = ages.withColumn("window_date", F.date_add("profile_date", F.col("age")))
    known = dated.groupBy("meter_id", "window_date").agg(
        F.median("p99_deviation_v").alias("p99_deviation_v"),
        F.median("p99_noise_v").alias("p99_noise_v"),
        F.median("cadence_s").alias("cadence_s"),
        F.max(F.when(F.col("age") == 1, F.col("residual_offset_v"))).alias("residual_offset_v"),
    )
    return windows.drop(*KNOWN).join(known, ["meter_id", "window_date"], "left")


def without_profiles(windows: DataFrame) -> DataFrame:
    """The same windows with null for every figure of a profile that `attach_profiles` did not add."""
    missing = {name: F.lit(None).cast("double") for name in KNOWN if name not in windows.columns}
    return windows.withColumns(missing) if missing else windows
