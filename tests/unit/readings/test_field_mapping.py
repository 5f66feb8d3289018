"""Documents of another utility: other names and units, by `input.fields`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.readings.decode import Decoder
from pipelines.settings import Settings
from tests.factories import NOON_MS, document
from tests.factories import settings as configured
from tests.fuzz.examples import GOOD, VALUES
from tests.fuzz.judge import outcomes

FOREIGN = {
    "meter_id": "meter.id",
    "timestamp": "t (epoch)",
    "timestamp_unit": "s",
    "voltage": "kV",
    "voltage_scale": 1000.0,
    "current": "mA",
    "current_scale": 0.001,
    "temperature": "°F",
    "temperature_unit": "F",
    "status": "state[0]",
}
"""Another utility's documents: names with characters that mean something in patterns, other units."""


def foreign(**changes: Any) -> bytes:
    """A document of that utility."""
    values = {
        "meter.id": "m1",
        "t (epoch)": NOON_MS / 1000,
        "kV": 0.23,
        "mA": 5000,
        "°F": 68,
        "state[0]": "OK",
    }
    return json.dumps({**values, **changes}, ensure_ascii=False).encode()


MAPPED: list[tuple[str, bytes, str | dict[str, Any]]] = [
    ("units become volts, amperes and degrees Celsius", foreign(), {}),
    ("whole seconds", foreign(**{"t (epoch)": NOON_MS // 1000}), {}),
    ("fractions of a second", foreign(**{"t (epoch)": NOON_MS / 1000 + 0.123}), {"event_ms": NOON_MS + 123}),
    ("no status", foreign(**{"state[0]": None}), {"status": None}),
    (
        "our own names are unknown here",
        foreign(voltage=1, status="x"),
        {"extra": {"voltage": 1, "status": "x"}},
    ),
    ("documents with our names", GOOD, "missing_meter_id"),
    ("milliseconds where seconds are declared", foreign(**{"t (epoch)": NOON_MS}), "out_of_range"),
    ("seconds ahead of the broker", foreign(**{"t (epoch)": NOON_MS / 1000 + 5.5}), "future_timestamp"),
    ("absurd seconds", foreign(**{"t (epoch)": 1e300}), "out_of_range"),
    ("infinite seconds", foreign(**{"t (epoch)": 77}).replace(b"77", b"1e999"), "out_of_range"),
    ("seconds before 1970", foreign(**{"t (epoch)": -0.001}), "out_of_range"),
    ("no seconds", foreign(**{"t (epoch)": None}), "missing_timestamp"),
    ("a number as meter id", foreign(**{"meter.id": 7}), "wrong_type"),
    ("a number as status", foreign(**{"state[0]": 7}), "wrong_type"),
    ("a scaled value out of range", foreign(kV=1001), "out_of_range"),
    ("a scaled value at the limit", foreign(kV=1000), {"voltage_v": 1e6}),
    ("no current and no temperature", foreign(mA=None, **{"°F": None}), {"current_a": None, "temperature_c": None}),
    ("a scaled current out of range", foreign(mA=2e9), {"current_a": None, "extra": {"mA": 2e9}}),
    ("a temperature below absolute zero", foreign(**{"°F": -460}), {"temperature_c": None, "extra": {"°F": -460}}),
    ("an unknown field", foreign(x="y"), {"extra": {"x": "y"}}),
    ("NaN as text for the seconds", foreign(**{"t (epoch)": "NaN"}), "out_of_range"),
    ("a text for the seconds", foreign(**{"t (epoch)": "now"}), "wrong_type"),
]


def decided(value: bytes, configured: Settings) -> Any:
    """The outcome of a record, with `extra` parsed."""
    (found,) = outcomes(Decoder(configured.input).decode([value], [NOON_MS]), 1)
    return found if not isinstance(found, dict) else {**found, "extra": json.loads(found["extra"] or "null")}


@pytest.mark.parametrize(("name", "value", "expected"), MAPPED, ids=[name for name, *_ in MAPPED])
def test_field_mapping(name: str, value: bytes, expected: str | dict[str, Any]) -> None:
    found = decided(value, configured(input={"fields": FOREIGN}))
    if isinstance(expected, str):
        assert found == expected
        return
    wanted = {**VALUES, **expected}
    assert found.pop("extra") == wanted.pop("extra")
    assert found == pytest.approx(wanted)


def test_kelvin_becomes_celsius() -> None:
    kelvin = configured(input={"fields": {"temperature_unit": "K"}})
    assert decided(document(temperature=293.15), kelvin)["temperature_c"] == pytest.approx(20.0)


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb"])
def test_a_name_that_json_has_to_escape_is_read_too(name: str) -> None:
    value = json.dumps({**json.loads(GOOD), name: "OK", "status": 1}).encode()
    assert decided(value, configured(input={"fields": {"status": name}})) == {**VALUES, "extra": {"status": 1}}
