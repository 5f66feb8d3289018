"""Documents of another utility: other names and units, by `input.fields`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pyspark.sql import Row, SparkSession

from tests.factories import NOON_MS, document
from tests.factories import settings as configured
from tests.timelines import epoch_ms
from tests.transforms.decoding import GOOD, VALUES, decide

Outcome = str | dict[str, Any]

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


MAPPED: list[tuple[str, bytes, Outcome]] = [
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
]


@pytest.fixture(scope="module")
def mapped(spark: SparkSession) -> list[Row]:
    """The other utility's documents, decided with `input.fields` set for them."""
    values: list[bytes | None] = [value for _, value, _ in MAPPED]
    return decide(spark, values, configured(input={"fields": FOREIGN})).orderBy("kafka_offset").collect()


@pytest.mark.parametrize("index", range(len(MAPPED)), ids=[name for name, *_ in MAPPED])
def test_field_mapping(mapped: list[Row], index: int) -> None:
    row, expected = mapped[index], MAPPED[index][2]
    if isinstance(expected, str):
        assert row["reason"] == expected
        return
    assert row["reason"] is None
    found = {**{column: row[column] for column in VALUES}, "event_ms": epoch_ms(row["event_ts"])}
    wanted = {**VALUES, "event_ms": NOON_MS, **expected}
    assert json.loads(found.pop("extra") or "null") == wanted.pop("extra")
    assert found == pytest.approx(wanted)


def test_kelvin_becomes_celsius(spark: SparkSession) -> None:
    kelvin = configured(input={"fields": {"temperature_unit": "K"}})
    row = decide(spark, [document(temperature=293.15)], kelvin).collect()[0]
    assert row["temperature_c"] == pytest.approx(20.0)
