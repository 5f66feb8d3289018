"""stuck_sensor and noisy_sensor: the meter itself measures badly."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import limits_of
from pipelines.anomalies.row_rules import RowRule, all_of, first_of, number
from pipelines.settings import Detection
from pipelines.windows import messages
from pipelines.windows.look_back import NOISE_SLIDES, total, windows_in

_un = pl.col("nominal_voltage_v")


def stuck_sensor(d: Detection) -> RowRule:
    """Largest equals least voltage over 15 min, at least 10 readings, above 0.1 Un: WARNING.

    A window without plausible readings, or a missing one, makes the comparison null: silent.
    """
    count = windows_in(d.stuck_s, d)
    value, readings = pl.col("min_v_0"), total("plausible_n", count)
    unchanged = all_of((pl.col(f"{end}_v_{k}") == value) for k in range(count) for end in ("max", "min"))
    energised = value > _un * number(limits_of(d).interruption_pu)
    return RowRule(
        "stuck_sensor",
        severity=first_of((unchanged & (readings >= d.stuck_readings) & energised, "WARNING")),
        observed=value,
        threshold=pl.lit(0.0),
        deviation=pl.lit(0.0),
        score=pl.lit(1.0),
        text=messages.stuck,
        text_of=(pl.col("meter_id"), value, pl.lit(int(count * d.window_s // 60)), readings),
    )


def noisy_sensor(d: Detection) -> RowRule:
    """Spread (V) common to the last five tested parts (`look_around.noise`) > max(1 % Un, 2 x own p99 noise): WARNING.
    Without two neighbours also > own_factor x its p99 at that hour of the last days (not known: 1 % Un).

    A step lifts the spread of one part, noise that of all: the largest of the five is left out. Switching loads lift
    all meters of a feeder: four times the feeder's median variance is taken off. Silent when a part is missing or
    has fewer than two in-band readings.
    """
    value = pl.col("noise_v")
    least = _un * number(limits_of(d).noise_pu)
    at_hour = pl.when(pl.col("is_alone")).then(pl.col("own_noise_v").fill_null(least) * d.own_factor)
    limit = pl.max_horizontal(least, pl.col("p99_noise_v").fill_null(0.0) * d.noise_factor, at_hour)
    return RowRule(
        "noisy_sensor",
        severity=first_of((value > limit, "WARNING")),
        observed=value,
        threshold=limit,
        deviation=value - limit,
        score=value / limit,
        text=messages.noisy,
        text_of=(pl.col("meter_id"), value, pl.lit(int(NOISE_SLIDES * d.slide_s // 60)), limit),
    )
