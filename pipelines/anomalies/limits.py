"""The limits that apply to a row: one number for all meters, or those of the class of the row's meter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

from pipelines.settings import Detection

Limit = float | pl.Expr
"""A number where all classes agree."""
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


@dataclass(frozen=True)
class ClassLimit:
    """A limit in which classes differ: its value for a meter without a class, and by class where it is another."""

    common: float
    by_class: dict[str, float]


def limits_of(detection: Detection) -> RowLimits:
    """The limits of a row, of the columns `limit_*` where classes differ."""
    common, apart = _values(detection), class_limits(detection)

    def one(key: str) -> Limit:
        return pl.col(_column(key)) if _column(key) in apart else common[key]

    limits: dict[str, Any] = {}
    for name in RowLimits.__dataclass_fields__:
        value = getattr(detection, name)
        is_one = not isinstance(value, tuple)
        limits[name] = one(name) if is_one else tuple(one(f"{name}_{place}") for place in range(len(value)))
    return RowLimits(**limits)


def class_limits(detection: Detection) -> dict[str, ClassLimit]:
    """Every limit in which classes differ, by the name of its column; empty without classes."""
    found = {}
    by_class = {name: _values(own) for name, own in detection.by_class.items()}
    for key, common in _values(detection).items():
        own = {name: values[key] for name, values in by_class.items() if values[key] != common}
        if own:
            found[_column(key)] = ClassLimit(common, own)
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
