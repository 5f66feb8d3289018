"""What is said of every reading: where its meter belongs, plausible, in band."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.readings.flags import flag_readings
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Settings
from tests import frames
from tests.factories import at

DETECTION = Settings().detection


FLAGS: dict[str, tuple[dict[str, Any], bool, bool]] = {
    # what differs from a normal reading -> plausible, in band
    "normal": ({}, True, True),
    "207 V, the lower limit": ({"voltage_v": 207.0}, True, True),
    "206.9 V": ({"voltage_v": 206.9}, True, False),
    "253 V, the upper limit": ({"voltage_v": 253.0}, True, True),
    "253.1 V": ({"voltage_v": 253.1}, True, False),
    "0 V": ({"voltage_v": 0.0}, True, False),
    "-0.1 V, the noise of a dead line": ({"voltage_v": -0.1}, True, False),
    "-1 V": ({"voltage_v": -1.0}, False, False),
    "345 V, the plausible limit": ({"voltage_v": 345.0}, True, False),
    "345.1 V": ({"voltage_v": 345.1}, False, False),
    "0 A": ({"current_a": 0.0}, True, True),
    "-0.1 A": ({"current_a": -0.1}, False, True),
    "far more than the rated current": ({"current_a": 5000.0}, True, True),
    "-40 °C, the lower limit": ({"temperature_c": -40.0}, True, True),
    "-40.1 °C": ({"temperature_c": -40.1}, False, True),
    "150 °C, the upper limit": ({"temperature_c": 150.0}, True, True),
    "150.1 °C": ({"temperature_c": 150.1}, False, True),
    "120 V at a 120 V meter": ({"voltage_v": 120.0, "nominal_voltage_v": 120.0}, True, True),
    "230 V at a 120 V meter": ({"voltage_v": 230.0, "nominal_voltage_v": 120.0}, False, False),
}


@pytest.fixture(scope="module")
def flagged() -> dict[str, dict[str, Any]]:
    """The flags of every case."""
    rows = [
        {**{k: v for k, v in values.items() if k != "nominal_voltage_v"}, "meter_id": name, "event_ts": at(0)}
        for name, (values, _, _) in FLAGS.items()
    ]
    nominal = [values.get("nominal_voltage_v", 230.0) for values, _, _ in FLAGS.values()]
    readings = frames.readings(rows).with_columns(nominal_voltage_v=pl.Series(nominal))
    return {row["meter_id"]: row for row in flag_readings(readings, detection=DETECTION).to_dicts()}


@pytest.mark.parametrize("name", list(FLAGS))
def test_flags(flagged: dict[str, dict[str, Any]], name: str) -> None:
    row = flagged[name]
    assert (row["is_plausible"], row["is_in_band"]) == FLAGS[name][1:]


def test_only_the_impossible_measurement_is_taken_out(flagged: dict[str, dict[str, Any]]) -> None:
    def possible(name: str) -> tuple[bool, ...]:
        return tuple(flagged[name][one] is not None for one in ("possible_v", "possible_a", "possible_c"))

    assert possible("normal") == (True, True, True)
    assert possible("345.1 V") == (False, True, True)
    assert possible("-0.1 A") == (True, False, True)
    assert possible("150.1 °C") == (True, True, False)


def test_meter_gets_its_topology_and_an_unknown_one_the_defaults() -> None:
    """A meter known without a nominal voltage has the default one too; every reading stays, once."""
    meters = frames.meters(
        [
            {"meter_id": "known", "feeder_id": "f9", "nominal_voltage_v": 120.0, "rated_current_a": 63.0},
            {"meter_id": "bare", "feeder_id": None, "nominal_voltage_v": None, "rated_current_a": None},
        ]
    )
    readings = frames.readings([{"meter_id": m, "event_ts": at(0)} for m in ("known", "known", "bare", "unknown")])
    rows = attach_meters(readings, placed_meters(meters, detection=DETECTION), detection=DETECTION)
    assert rows.select("meter_id", "feeder_id", "nominal_voltage_v", "rated_current_a").rows() == [
        ("known", "f9", 120.0, 63.0),
        ("known", "f9", 120.0, 63.0),
        ("bare", None, 230.0, None),
        ("unknown", None, 230.0, None),
    ]
