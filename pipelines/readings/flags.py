"""What is said of every reading, whether a rule finds it odd or not: is it possible, is it within the band."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.settings import Detection

MEASURED = {"possible_v": "voltage_v", "possible_a": "current_a", "possible_c": "temperature_c"}
"""A measurement where it is physically possible, else null; and the column it is of."""


def flag_readings(placed: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds is_plausible and is_in_band, never null, and the columns of MEASURED.

    In: readings with the columns of `attach_meters`. Only in-band voltages enter a baseline. An impossible current or
    temperature costs the reading is_plausible, and its voltage nothing.
    """
    limits = limits_of(detection)
    low, high = limits.undervoltage_pu[0], limits.overvoltage_pu[0]
    per_unit = pl.col("possible_v") / pl.col("nominal_voltage_v")
    is_plausible = pl.all_horizontal(is_possible(detection).values())
    measured = add_possible(placed.with_columns(is_plausible=is_plausible), detection=detection)
    return measured.with_columns(is_in_band=per_unit.is_between(low, high).fill_null(value=False))


def add_possible(placed: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds the columns of MEASURED to readings with the columns of `attach_meters`."""
    conditions = is_possible(detection)
    return placed.with_columns(pl.when(conditions[name]).then(of).alias(name) for name, of in MEASURED.items())


def is_possible(detection: Detection) -> dict[str, pl.Expr]:
    """Whether a measurement is physically possible, by the names of MEASURED: 0 <= v <= implausible_pu x Un (down to
    -zero_tolerance_pu x Un: noise of a dead line), i >= 0, temperature in its range.

    A current or temperature that is null says nothing against the reading.
    """
    limits = limits_of(detection)
    coldest, hottest = limits.plausible_temperature_c
    highest_v = pl.col("nominal_voltage_v") * limits.implausible_pu
    return {
        "possible_v": pl.col("voltage_v").is_between(lowest_plausible_v(detection), highest_v),
        "possible_a": (pl.col("current_a") >= 0).fill_null(value=True),
        "possible_c": pl.col("temperature_c").is_between(coldest, hottest).fill_null(value=True),
    }


def lowest_plausible_v(detection: Detection) -> pl.Expr:
    """The lowest voltage (V) that a dead line shows."""
    return pl.col("nominal_voltage_v") * -detection.zero_tolerance_pu
