"""The limits that apply to a row: one number for all meters, or those of the class of the row's meter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.settings import Detection

Limit = float | Column
"""A number where all classes agree, so that a plan without classes is as if there were none."""
Three = tuple[Limit, Limit, Limit]


@dataclass(frozen=True)
class RowLimits:
    """The settings of `Limits` by their names. Columns among them need meter_class, which `attach_meters` adds."""

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
    """The limits of a row; a meter without a class, or of one that is not in the settings, has the common ones."""

    def one(value: Callable[[Detection], float]) -> Limit:
        return _by_class(detection, value)

    def three(value: Callable[[Detection], tuple[float, float, float]]) -> Three:
        return one(lambda x: value(x)[0]), one(lambda x: value(x)[1]), one(lambda x: value(x)[2])

    return RowLimits(
        spike_pu=one(lambda x: x.spike_pu),
        min_deviation_pu=one(lambda x: x.min_deviation_pu),
        alone_deviation_pu=one(lambda x: x.alone_deviation_pu),
        own_load_ohm=one(lambda x: x.own_load_ohm),
        interruption_pu=one(lambda x: x.interruption_pu),
        undervoltage_pu=three(lambda x: x.undervoltage_pu),
        overvoltage_pu=three(lambda x: x.overvoltage_pu),
        implausible_pu=one(lambda x: x.implausible_pu),
        plausible_temperature_c=(
            one(lambda x: x.plausible_temperature_c[0]),
            one(lambda x: x.plausible_temperature_c[1]),
        ),
        over_temperature_c=three(lambda x: x.over_temperature_c),
        overcurrent_pu=three(lambda x: x.overcurrent_pu),
        sustained_critical_pu=one(lambda x: x.sustained_critical_pu),
        noise_pu=one(lambda x: x.noise_pu),
        step_pu=one(lambda x: x.step_pu),
        drift_pu=one(lambda x: x.drift_pu),
        rise_c=one(lambda x: x.rise_c),
    )


def per_unit(voltage: Column, *, detection: Detection) -> Column:
    """A voltage difference in units of the row's Un, where neighbours of another Un may be compared with it.

    Without classes a feeder has one Un, and volts are compared as they are.
    """
    return voltage / F.col("nominal_voltage_v") if detection.classes else voltage


def in_volts(value: Column, *, detection: Detection) -> Column:
    """What `per_unit` made, or a median of it, back in volts of the row's meter."""
    return value * F.col("nominal_voltage_v") if detection.classes else value


def _by_class(detection: Detection, value: Callable[[Detection], float]) -> Limit:
    common = value(detection)
    own = {name: value(limits) for name, limits in detection.by_class.items() if value(limits) != common}
    if not own:
        return common
    return F.coalesce(
        *(F.when(F.col("meter_class") == name, F.lit(limit)) for name, limit in own.items()), F.lit(common)
    )
