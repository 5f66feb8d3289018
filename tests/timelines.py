"""Rows of meter_windows as the plain-Python model writes them, and readings of the model as rows."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tests.factories import NOON_MS, at
from tests.window_model import Reading

Timed = dict[tuple[str, int], dict[str, Any]]
_OF_THE_FEEDER = ("residual_v", "feeder_std_v")
_EPOCH = date(1970, 1, 1)


def epoch_ms(moment: datetime) -> int:
    """Epoch milliseconds of a naive UTC time."""
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def as_model(rows: pl.DataFrame) -> Timed:
    """Rows of meter_windows by (meter, window end); a row that is there twice is an error."""
    found: Timed = {}
    for row in rows.to_dicts():
        values = {name: _plain(value) for name, value in row.items()}
        key = (values["meter_id"], values["window_end"])
        assert key not in found, f"{key} stands twice"
        found[key] = values
    return found


def assert_same_windows(found: Timed, expected: Timed) -> None:
    """The same keys and columns; numbers to 1e-6 V, because a sum in another order rounds differently."""
    assert sorted(found) == sorted(expected)
    for key, wanted in expected.items():
        assert found[key] == {k: _about(v) for k, v in wanted.items()}, f"window of {key}"


def without_feeder(windows: Timed) -> Timed:
    """Stored windows as the plain model writes them: what the rest of the feeder adds is left to the rules' tests."""
    return {key: {**row, **dict.fromkeys(_OF_THE_FEEDER)} for key, row in windows.items()}


def as_row(reading: Reading, **more: Any) -> dict[str, Any]:
    """A row of the table readings."""
    return {
        "meter_id": reading.meter_id,
        "event_ts": at((reading.event_ms - NOON_MS) / 1000),
        "voltage_v": reading.voltage_v,
        "current_a": reading.current_a,
        "temperature_c": reading.temperature_c,
        "is_plausible": reading.is_plausible,
        "is_in_band": reading.is_in_band,
        **more,
    }


def random_readings(seed: int, *, meters: int, cadence_s: float, seconds: int) -> list[Reading]:
    """A shuffled fleet from noon on: jitter, gaps, readings on edges, implausible and out-of-band ones."""
    rng = random.Random(seed)
    readings = []
    for meter in range(meters):
        for poll in range(int(seconds / cadence_s)):
            if rng.random() < 0.05:
                continue
            jitter = 0 if rng.random() < 0.3 else rng.uniform(0, cadence_s * 0.9)
            readings.append(_random_reading(rng, f"m{meter}", NOON_MS + round((poll * cadence_s + jitter) * 1000)))
    rng.shuffle(readings)
    return readings


def _random_reading(rng: random.Random, meter_id: str, event_ms: int) -> Reading:
    volts = round(rng.gauss(230, 3), 1)
    if (kind := rng.random()) < 0.03:
        return Reading(meter_id, event_ms, volts * 10, is_plausible=False, is_in_band=False)
    if kind < 0.1:
        return Reading(meter_id, event_ms, round(rng.uniform(0, 200), 1), is_in_band=False)
    return Reading(meter_id, event_ms, volts, round(rng.uniform(0, 40), 2), round(rng.uniform(-10, 60), 1))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return epoch_ms(value)
    return (value - _EPOCH).days if isinstance(value, date) else value


def _about(value: Any) -> Any:
    return pytest.approx(value, abs=1e-6) if isinstance(value, float) else value
