"""Readings of the archive in Spark: where they belong in the grid, and the flags that the archive gave them."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.transforms.limits import class_limits, limits_of

TOPOLOGY = ("feeder_id", "phase", "nominal_voltage_v", "rated_current_a")
"""What `attach_meters` adds to a reading."""


def attach_meters(readings: DataFrame, meters: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds feeder_id, phase, nominal_voltage_v (V) and rated_current_a (A) of the meter, and the limits in which
    classes differ (`limits_of`): without classes none.

    A meter that `meters` does not know gets the default nominal voltage, no feeder, no phase, no rated current, and
    the common limits.
    """
    limits = class_limits(detection)
    own = (value.alias(name) for name, (value, _) in limits.items())
    known = F.broadcast(meters.select("meter_id", *TOPOLOGY, *own))
    default = F.lit(detection.nominal_voltage_v)
    joined = readings.join(known, "meter_id", "left")
    placed = joined.withColumn("nominal_voltage_v", F.coalesce("nominal_voltage_v", default))
    common = {name: F.coalesce(name, F.lit(value)) for name, (_, value) in limits.items()}
    return placed.withColumns(common) if common else placed


def flag_readings(readings: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds is_plausible and is_in_band.

    Needs voltage_v, current_a, temperature_c, nominal_voltage_v. Only in-band readings enter a baseline.
    """
    limits = limits_of(detection)
    low, high = limits.undervoltage_pu[0], limits.overvoltage_pu[0]
    per_unit = F.col("voltage_v") / F.col("nominal_voltage_v")
    plausible = is_plausible(detection)
    return readings.withColumns(
        {"is_plausible": plausible, "is_in_band": plausible & per_unit.between(F.lit(low), F.lit(high))}
    )


def is_plausible(detection: Detection) -> Column:
    """Whether all measurements are physically possible: 0 <= v <= 1.5 Un (down to -zero_tolerance_pu
    Un: noise of a dead line), i >= 0, temperature in its range.

    A current or temperature that a file does not have says nothing against the reading.
    """
    limits = limits_of(detection)
    coldest, hottest = limits.plausible_temperature_c
    highest_v = F.col("nominal_voltage_v") * F.lit(limits.implausible_pu)
    return (
        F.col("voltage_v").between(lowest_plausible_v(detection), highest_v)
        & F.coalesce(F.col("current_a") >= 0, F.lit(True))
        & F.coalesce(F.col("temperature_c").between(F.lit(coldest), F.lit(hottest)), F.lit(True))
    )


def lowest_plausible_v(detection: Detection) -> Column:
    """The lowest voltage (V) that a dead line shows."""
    return F.col("nominal_voltage_v") * F.lit(-detection.zero_tolerance_pu)
