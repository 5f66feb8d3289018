"""stuck_sensor and noisy_sensor: the meter itself measures badly."""

from __future__ import annotations

from functools import reduce

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.anomalies import finding
from pipelines.transforms.limits import limits_of
from pipelines.transforms.window_rules.measures import NOISE_SLIDES, total, windows_in


def stuck_sensor(d: Detection) -> Column:
    """Largest equals least voltage over 15 min, at least 10 readings, above 0.1 Un: WARNING.

    A window without plausible readings, or a missing one, makes the comparison null: silent.
    """
    limits = limits_of(d)
    count = windows_in(d.stuck_s, d)
    value, readings = F.col("min_v_0"), total("plausible_n", count)
    unchanged = reduce(
        Column.__and__, [F.greatest(f"max_v_{k}", f"min_v_{k}") == value for k in range(count)]
    ) & reduce(Column.__and__, [F.least(f"max_v_{k}", f"min_v_{k}") == value for k in range(count)])
    energised = value > F.col("nominal_voltage_v") * limits.interruption_pu
    minutes = int(count * d.window_s // 60)
    return finding(
        "stuck_sensor",
        severity=F.when(unchanged & (readings >= d.stuck_readings) & energised, "WARNING"),
        observed=value,
        threshold=F.lit(0.0),
        deviation=F.lit(0.0),
        score=F.lit(1.0),
        text=F.format_string(
            f"Meter %s: the voltage has been exactly %.1f V for {minutes} minutes (%d readings).",
            "meter_id", value, readings,
        ),
    )  # fmt: skip


def noisy_sensor(d: Detection) -> Column:
    """Spread (V) common to the last five tested parts (`measures.noise`) > max(1 % Un, 2 x own p99 noise): WARNING.

    A step lifts the spread of one part, noise that of all: the largest of the five is left out. Switching loads lift
    all meters of a feeder: four times the feeder's median variance is taken off. Silent when a part is missing or
    has fewer than two in-band readings.
    """
    limits = limits_of(d)
    value = F.col("noise_v")
    own_p99 = F.coalesce("p99_noise_v", F.lit(0.0))
    limit = F.greatest(F.col("nominal_voltage_v") * limits.noise_pu, F.lit(d.noise_factor) * own_p99)
    minutes = int(NOISE_SLIDES * d.slide_s // 60)
    return finding(
        "noisy_sensor",
        severity=F.when(value > limit, "WARNING"),
        observed=value,
        threshold=limit,
        deviation=value - limit,
        score=value / limit,
        text=F.format_string(
            f"Meter %s: the voltage has scattered by %.2f V throughout {minutes} minutes; %.2f V are allowed.",
            "meter_id", value, limit,
        ),
    )  # fmt: skip
