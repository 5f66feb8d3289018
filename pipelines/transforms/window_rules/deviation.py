"""voltage_deviation: the tested part leaves the baseline part of its own window."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.anomalies import finding


def voltage_deviation(d: Detection) -> Column:
    """The largest distance (V) of a tested reading from the baseline mean, beyond what is allowed: WARNING.

    Allowed: max(sigma x max(std, std_floor_pu), min_deviation_pu Un, profile_factor x the meter's own p99 deviation
    of the last days); alone_deviation_pu Un where fewer than two neighbours show what is common. The distance is taken
    less what the meter's own current explains (own_load_ohm). Silent with fewer than `min_history` in-band baseline
    readings, without a plausible tested reading, when a tested reading is out of band (undervoltage and overvoltage
    speak of it), and when the feeder moved: `peers` others deviate alike, or its median moved half as much.
    """
    deviation, mean = F.col("deviation_v"), F.col("base_mean_v")
    own_p99 = F.col("p99_deviation_v")
    allowed = F.greatest(F.col("allowed_v"), F.lit(d.profile_factor) * F.coalesce(own_p99, F.lit(0.0)))
    in_band = F.col("tested_out_ts").isNull()
    deviates = in_band & F.col("deviates") & (F.abs(deviation) > allowed) & ~F.col("is_feeders")
    observed = mean + F.col("raw_deviation_v")
    text = F.format_string(
        "Meter %s: %.1f V is %+.1f V off its mean of %.1f V over %d readings; %.1f V are allowed%s.",
        "meter_id", observed, F.col("raw_deviation_v"), mean, "base_n", allowed, _origin(own_p99),
    )  # fmt: skip
    return finding(
        "voltage_deviation",
        severity=F.when(deviates, "WARNING"),
        observed=observed,
        threshold=allowed,
        deviation=F.col("raw_deviation_v"),
        score=F.abs(deviation) / allowed,
        text=text,
    )


def baseline_part(d: Detection) -> Column:
    """The baseline the tested part was compared with, as it stands in the anomaly."""
    return F.struct(
        F.col("base_mean_v").alias("mean"),
        F.col("base_std_v").alias("std"),
        F.col("base_n").alias("n"),
        F.unix_millis("window_start").alias("windowStart"),
        (F.unix_millis("window_end") - F.lit(int(d.slide_s * 1000))).alias("windowEnd"),
    )


def _origin(own_p99: Column) -> Column:
    return F.when(own_p99.isNull(), " (no full day of this meter yet)").otherwise("")
