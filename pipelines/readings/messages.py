"""The sentence of a finding of one reading, for a person. Composed for found rows only, in Python."""

from __future__ import annotations

from pipelines.anomalies.rounding import signed_tenths, tenths

_STATUS_LENGTH = 80


def over_fixed_limit(meter: str, voltage_v: float, limit_v: float, deviation_v: float) -> str:
    return _voltage(meter, voltage_v, "above the fixed limit of", limit_v, deviation_v)


def interrupted(meter: str, voltage_v: float, limit_v: float, deviation_v: float) -> str:
    return _voltage(meter, voltage_v, "below the interruption limit of", limit_v, deviation_v)


def below_band(meter: str, voltage_v: float, limit_v: float, deviation_v: float) -> str:
    return _voltage(meter, voltage_v, "below the band's lower limit of", limit_v, deviation_v)


def above_band(meter: str, voltage_v: float, limit_v: float, deviation_v: float) -> str:
    return _voltage(meter, voltage_v, "above the band's upper limit of", limit_v, deviation_v)


def too_hot(meter: str, temperature_c: float, limit_c: float) -> str:
    return f"Meter {meter}: {tenths(temperature_c)} °C is above the limit of {tenths(limit_c)} °C."


def above_rated_current(meter: str, current_a: float, rated_a: float) -> str:
    return f"Meter {meter}: {tenths(current_a)} A is above the rated current of {tenths(rated_a)} A."


def failure_reported(meter: str, status: str) -> str:
    return f"Meter {meter} reports the status '{status[:_STATUS_LENGTH]}'."


def not_possible(meter: str, value: float, limit: float, unit: str) -> str:
    said = f"{tenths(value)} {unit} is not possible (limit {tenths(limit)})"
    return f"Meter {meter}: {said}: the reading stays out of every baseline."


def off_its_mean(meter: str, voltage_v: float, deviation_v: float, mean_v: float, n: int, allowed_v: float) -> str:
    said = f"{tenths(voltage_v)} V is {signed_tenths(deviation_v)} V off its mean of {tenths(mean_v)} V"
    return f"Meter {meter}: {said} over {n} readings; {tenths(allowed_v)} V are allowed."


def _voltage(meter: str, voltage_v: float, relation: str, limit_v: float, deviation_v: float) -> str:
    limit, deviation = tenths(limit_v), signed_tenths(deviation_v)
    return f"Meter {meter}: {tenths(voltage_v)} V is {relation} {limit} V ({deviation} V)."
