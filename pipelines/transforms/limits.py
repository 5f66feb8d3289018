"""The limits that apply to a row: one number for all meters, or those of the class of the row's meter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection

Limit = float | Column
"""A number where all classes agree, so that a plan without classes is as if there were none."""
Three = tuple[Limit, Limit, Limit]


@dataclass(frozen=True)
class RowLimits:
    """The settings of `Limits` by their names."""

    spike_pu: Limit
    min_deviation_pu: Limit
    alone_deviation_pu: Limit
    own_load_ohm: Limit
    interruption_pu: Limit
    undervoltage_pu: Three
    overvoltage_pu: Three
    implausible_pu: Limit
    plausible_temperature_c: tuple[Limit, Limit]
    over_temperature_c: Three
    overcurrent_pu: Three
    sustained_critical_pu: Limit
    noise_pu: Limit
    step_pu: Limit
    drift_pu: Limit
    rise_c: Limit


def limits_of(detection: Detection) -> RowLimits:
    """The limits of a row, of the columns that `attach_meters` adds where classes differ."""
    common, apart = _values(detection), class_limits(detection)

    def one(key: str) -> Limit:
        return F.col(_column(key)) if _column(key) in apart else common[key]

    limits: dict[str, Any] = {}
    for name in RowLimits.__dataclass_fields__:
        value = getattr(detection, name)
        is_one = not isinstance(value, tuple)
        limits[name] = one(name) if is_one else tuple(one(f"{name}_{place}") for place in range(len(value)))
    return RowLimits(**limits)


def class_limits(detection: Detection) -> dict[str, tuple[Column, float]]:
    """For every limit in which classes differ: its column's name, its value by the meter_class of the table meters, and
    that of a meter without a class.

    Decided on the few rows of meters and not on each reading: the code of the rules, which is one Java method of
    limited size, must not grow with the number of classes.
    """
    found = {}
    by_class = {name: _values(own) for name, own in detection.by_class.items()}
    for key, common in _values(detection).items():
        own = {name: values[key] for name, values in by_class.items() if values[key] != common}
        if own:
            chosen = [F.when(F.col("meter_class") == name, F.lit(limit)) for name, limit in own.items()]
            found[_column(key)] = (F.coalesce(*chosen, F.lit(common)), common)
    return found


def _values(detection: Detection) -> dict[str, float]:
    """Every limit as a number; of several under one name each with its place."""
    values: dict[str, float] = {}
    for name in RowLimits.__dataclass_fields__:
        value = getattr(detection, name)
        several = {f"{name}_{place}": one for place, one in enumerate(value)} if isinstance(value, tuple) else None
        values |= several or {name: value}
    return values


def _column(key: str) -> str:
    return f"limit_{key}"


def per_unit(voltage: Column, *, detection: Detection) -> Column:
    """A voltage difference in units of the row's Un, where neighbours of another Un may be compared with it.

    Without classes a feeder has one Un, and volts are compared as they are.
    """
    return voltage / F.col("nominal_voltage_v") if detection.classes else voltage


def in_volts(value: Column, *, detection: Detection) -> Column:
    """What `per_unit` made, or a median of it, back in volts of the row's meter."""
    return value * F.col("nominal_voltage_v") if detection.classes else value
