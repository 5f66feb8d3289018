"""voltage_deviation: the tested part leaves the baseline part of its own window."""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from pipelines.anomalies.row_rules import RowRule, first_of
from pipelines.settings import Detection
from pipelines.windows import messages

_mean, _raw, _own_p99 = pl.col("base_mean_v"), pl.col("raw_deviation_v"), pl.col("p99_deviation_v")


def voltage_deviation(d: Detection) -> RowRule:
    """The largest distance (V) of a tested reading from the baseline mean, beyond what is allowed: WARNING.

    Allowed: max(sigma x max(std, std_floor_pu), min_deviation_pu Un, profile_factor x the meter's own p99 deviation
    of the last days); where fewer than two neighbours show what is common alone_deviation_pu Un, and own_factor x its
    p99 deviation at that hour of the last days. The distance is taken
    less what the meter's own current explains (own_load_ohm). Silent with fewer than `min_history` in-band baseline
    readings, without a plausible tested reading, when a tested reading is out of band (undervoltage and overvoltage
    speak of it), and when the feeder moved: `peers` others deviate alike, or its median moved half as much.
    """
    distance = pl.col("deviation_v").abs()
    at_hour = pl.when(pl.col("is_alone")).then(pl.col("own_deviation_v") * d.own_factor)
    allowed = pl.max_horizontal("allowed_v", _own_p99.fill_null(0.0) * d.profile_factor, at_hour)
    in_band = pl.col("tested_out_ts").is_null()
    deviates = in_band & pl.col("deviates") & (distance > allowed) & ~pl.col("is_feeders")
    observed = _mean + _raw
    return RowRule(
        "voltage_deviation",
        severity=first_of((deviates, "WARNING")),
        observed=observed,
        threshold=allowed,
        deviation=_raw,
        score=distance / allowed,
        text=messages.deviates,
        text_of=(pl.col("meter_id"), observed, _raw, _mean, pl.col("base_n"), allowed, _own_p99),
    )


def baseline_part(d: Detection) -> pl.Expr:
    """The baseline the tested part was compared with, as it stands in the anomaly; times are epoch ms."""
    tested = timedelta(milliseconds=round(d.slide_s * 1000))
    return pl.struct(
        _mean.alias("mean"),
        pl.col("base_std_v").alias("std"),
        pl.col("base_n").alias("n"),
        pl.col("window_start").dt.epoch("ms").alias("windowStart"),
        (pl.col("window_end") - tested).dt.epoch("ms").alias("windowEnd"),
    )
