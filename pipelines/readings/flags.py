"""What is said of every reading, whether a rule finds it odd or not: is it possible, is it within the band."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.settings import Detection


def flag_readings(placed: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds is_plausible and is_in_band, never null. Only in-band readings enter a baseline.

    In: readings with the columns of `attach_meters`.
    """
    limits = limits_of(detection)
    low, high = limits.undervoltage_pu[0], limits.overvoltage_pu[0]
    per_unit = pl.col("voltage_v") / pl.col("nominal_voltage_v")
    flagged = placed.with_columns(is_plausible=is_plausible(detection))
    return flagged.with_columns(is_in_band=pl.col("is_plausible") & per_unit.is_between(low, high))


def is_plausible(detection: Detection) -> pl.Expr:
    """Whether all measurements are physically possible: 0 <= v <= implausible_pu x Un (down to -zero_tolerance_pu x
    Un: noise of a dead line), i >= 0, temperature in its range.

    A current or temperature that is null says nothing against the reading.
    """
    limits = limits_of(detection)
    coldest, hottest = limits.plausible_temperature_c
    highest_v = pl.col("nominal_voltage_v") * limits.implausible_pu
    return (
        pl.col("voltage_v").is_between(lowest_plausible_v(detection), highest_v)
        & (pl.col("current_a") >= 0).fill_null(value=True)
        & pl.col("temperature_c").is_between(coldest, hottest).fill_null(value=True)
    )


def lowest_plausible_v(detection: Detection) -> pl.Expr:
    """The lowest voltage (V) that a dead line shows."""
    return pl.col("nominal_voltage_v") * -detection.zero_tolerance_pu
