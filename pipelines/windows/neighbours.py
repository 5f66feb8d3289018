"""Every meter against its feeder at one window end: what the neighbours saw too is not the meter's own."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.settings import Detection

LEAST_METERS = 3
"""A median of two is as much one meter's as the other's."""


def compare_with_feeder(windows: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Fills residual_v and feeder_std_v.

    In: complete rows of one or more window ends with the columns of `attach_meters`. Compared are the in-band means
    of the tested parts, with the meters of the same phase where three of them are known, else with the feeder; null
    for a meter without a feeder or with fewer than two others. With classes the means are compared in units of Un.
    """
    feeder, phase = ["feeder_id", "window_end"], ["feeder_id", "phase", "window_end"]
    n, has_feeder = pl.col("tested_mean_v").count(), pl.col("feeder_id").is_not_null()

    def median(name: str) -> pl.Expr:
        middle = per_unit(pl.col(name), detection=detection).median()
        by_phase = pl.when(pl.col("phase").is_not_null() & (n.over(phase) >= LEAST_METERS)).then(middle.over(phase))
        by_feeder = pl.when(n.over(feeder) >= LEAST_METERS).then(middle.over(feeder))
        return pl.when(has_feeder).then(in_volts(pl.coalesce(by_phase, by_feeder), detection=detection))

    distance = pl.col("tested_mean_v") - pl.col("middle_v")
    current = pl.col("tested_min_current_a").fill_null(0.0)
    compared = windows.with_columns(middle_v=median("tested_mean_v"), feeder_std_v=median("tested_std_v"))
    residual = less_own_load(distance, rise_a=current, fall_a=pl.lit(0.0), detection=detection)
    return compared.with_columns(residual_v=residual).drop("middle_v")


def less_own_load(voltage: pl.Expr, *, rise_a: pl.Expr, fall_a: pl.Expr, detection: Detection) -> pl.Expr:
    """What is left of a voltage difference (V) after the drop over the line that the meter's own current makes.

    A rise of the current (A) explains a drop of up to rise x own_load_ohm, a fall of it a rise of the voltage.
    """
    ohm = limits_of(detection).own_load_ohm
    drop, gain = pl.max_horizontal(rise_a, 0.0) * ohm, pl.max_horizontal(fall_a, 0.0) * ohm
    below, above = pl.min_horizontal(voltage + drop, 0.0), pl.max_horizontal(voltage - gain, 0.0)
    return pl.when(voltage < 0).then(below).when(voltage.is_not_null()).then(above)


def per_unit(voltage: pl.Expr, *, detection: Detection) -> pl.Expr:
    """A voltage difference in units of the row's Un, where neighbours of another Un may be compared with it.

    Without classes a feeder has one Un, and volts are compared as they are.
    """
    return voltage / pl.col("nominal_voltage_v") if detection.classes else voltage


def in_volts(value: pl.Expr, *, detection: Detection) -> pl.Expr:
    """What `per_unit` made, or a median of it, back in volts of the row's meter."""
    return value * pl.col("nominal_voltage_v") if detection.classes else value
