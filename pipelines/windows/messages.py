"""The sentence of a finding of a window or a feeder, for a person. Composed for found rows only, in Python."""

from __future__ import annotations

from pipelines.anomalies.rounding import rounded, signed_tenths, tenths


def deviates(
    meter: str, observed_v: float, deviation_v: float, mean_v: float, n: int, allowed_v: float, own_p99_v: float | None
) -> str:
    said = f"Meter {meter}: {tenths(observed_v)} V is {signed_tenths(deviation_v)} V off its mean of {tenths(mean_v)} V"
    origin = " (no full day of this meter yet)" if own_p99_v is None else ""
    return f"{said} over {n} readings; {tenths(allowed_v)} V are allowed{origin}."


def sustained(meter: str, minutes: int, mean_v: float, relation: str, limit_v: float) -> str:
    said = f"the {minutes}-minute mean of {tenths(mean_v)} V is {relation} the band's limit of {tenths(limit_v)} V"
    return f"Meter {meter}: {said}."


def held(meter: str, voltage_v: float, margin_v: float, limit_v: float) -> str:
    limit = f"within {tenths(margin_v)} V of its limit of {tenths(limit_v)} V"
    return f"Meter {meter}: {tenths(voltage_v)} V is back in the band, but {limit}."


def stuck(meter: str, voltage_v: float, minutes: int, readings: int) -> str:
    said = f"the voltage has been exactly {tenths(voltage_v)} V for {minutes} minutes ({readings} readings)"
    return f"Meter {meter}: {said}."


def noisy(meter: str, noise_v: float, minutes: int, allowed_v: float) -> str:
    said = f"the voltage has scattered by {rounded(noise_v, 2)} V throughout {minutes} minutes"
    return f"Meter {meter}: {said}; {rounded(allowed_v, 2)} V are allowed."


def stepped(meter: str, mean_v: float, distance_v: float, minutes: int, allowed_v: float) -> str:
    said = f"its mean of {tenths(mean_v)} V has been {signed_tenths(distance_v)} V off its feeder for {minutes} minutes"
    return f"Meter {meter}: {said}; {tenths(allowed_v)} V are allowed."


def drifted(meter: str, minutes: int, distance_v: float, expected_v: float, allowed_v: float) -> str:
    said = f"over {minutes} minutes it lies {signed_tenths(distance_v)} V off its feeder"
    before = f"the day before {signed_tenths(expected_v)} V; {tenths(allowed_v)} V of change are allowed"
    return f"Meter {meter}: {said}, {before}."


def left_own_past(
    meter: str, voltage_v: float, minutes: int, distance_v: float, low_v: float, high_v: float, allowed_v: float
) -> str:
    said = f"{tenths(voltage_v)} V over {minutes} minutes is {signed_tenths(distance_v)} V outside what is usual for it"
    usual = f"at this hour, {tenths(low_v)} to {tenths(high_v)} V; {tenths(allowed_v)} V are allowed"
    return f"Meter {meter}: {said} {usual}."


def warmed(meter: str, hottest_c: float, rise_c: float, minutes: int, allowed_c: float) -> str:
    said = f"{tenths(hottest_c)} °C is {signed_tenths(rise_c)} °C within {minutes} minutes"
    return f"Meter {meter}: {said}; {tenths(allowed_c)} °C are allowed."


def silent(meter: str, step: int, silence_s: float) -> str:
    minutes = rounded(silence_s / 60, 0)
    if step == 0:
        return f"Meter {meter} is back after more than {minutes} minutes of silence."
    return f"Meter {meter}: no reading for {minutes} minutes."


def many_at_once(feeder: str, phase: str | None, count: int, reporting: int, what: str, needed: int) -> str:
    place = feeder if phase is None else f"{feeder}, phase {phase}"
    said = f"{count} of {reporting} reporting meters are {what} at once; {needed} make it the feeder's"
    return f"Feeder {place}: {said}."


def still_out(feeder: str, count: int, dead: int, needed: int) -> str:
    said = f"{count} meters are still without voltage, {dead} of them for longer; {needed} keep its outage open"
    return f"Feeder {feeder}: {said}."
