"""Records no consumer should accept: every kind we know of, each with the reason it must be rejected for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Reading = dict[str, Any]
Maker = Callable[[Reading], bytes | None]

FUTURE = "future_clock"
"""The one kind whose bytes depend on the wall clock: the sender stamps it, see `generator.encode.restamp`."""
YEAR_1999_MS = 922_881_600_000


def _dumps(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _fixed(value: bytes | None) -> Maker:
    return lambda reading: value


def _with(**changes: object) -> Maker:
    return lambda reading: _dumps({**reading, **changes})


def _without(name: str) -> Maker:
    return lambda reading: _dumps({key: value for key, value in reading.items() if key != name})


def _raw(name: str, literal: str) -> Maker:
    """Write a literal where the field's value stands, also one that JSON does not know."""
    return lambda reading: _dumps({**reading, name: "@"}).replace(b'"@"', literal.encode())


_MAKERS: dict[str, tuple[str, Maker]] = {
    "empty_bytes": ("empty_value", _fixed(b"")),
    "tombstone": ("empty_value", _fixed(None)),
    "white_space": ("empty_value", _fixed(b" \t\r\n ")),
    "invalid_utf8": ("not_utf8", lambda reading: _dumps(reading).replace(b'"meterId"', b'"meter\xff\xfe"')),
    "cut_utf8": ("not_utf8", lambda reading: _dumps(reading)[:-1] + b',"note":"\xc3"}'),
    "trailing_garbage": ("trailing_content", lambda reading: _dumps(reading) + b"#~x"),
    "two_documents": ("trailing_content", lambda reading: _dumps(reading) * 2),
    "array": ("not_an_object", lambda reading: _dumps([reading])),
    "number": ("not_an_object", _fixed(b"230.1")),
    "string": ("not_an_object", _fixed(b'"230.1 V"')),
    "true_literal": ("not_an_object", _fixed(b"true")),
    "null_literal": ("not_an_object", _fixed(b"null")),
    "truncated": ("malformed_json", lambda reading: _dumps(reading)[:-9]),
    "plain_text": ("malformed_json", _fixed(b"voltage is 230 V")),
    "voltage_text": ("wrong_type", _with(voltage="abc")),
    "voltage_true": ("wrong_type", _with(voltage=True)),
    "timestamp_text": ("wrong_type", _with(timestamp="yesterday")),
    "meter_id_number": ("wrong_type", _with(meterId=4711)),
    "no_fields": ("missing_meter_id", _fixed(b"{}")),
    "all_null": ("missing_meter_id", lambda reading: _dumps(dict.fromkeys(reading))),
    "meter_id_empty": ("missing_meter_id", _with(meterId="")),
    "timestamp_missing": ("missing_timestamp", _without("timestamp")),
    "timestamp_null": ("missing_timestamp", _with(timestamp=None)),
    "voltage_missing": ("missing_measurement", _without("voltage")),
    "voltage_null": ("missing_measurement", _with(voltage=None)),
    "nan_literal": ("not_finite", _raw("voltage", "NaN")),
    "nan_text": ("not_finite", _with(voltage="NaN")),
    "overflowing": ("not_finite", _raw("voltage", "1e400")),
    "infinity_literal": ("not_finite", _raw("voltage", "Infinity")),
    "voltage_beyond_range": ("out_of_range", _with(voltage=2e6)),
    "voltage_below_range": ("out_of_range", _with(voltage=-2e6)),
    "timestamp_negative": ("out_of_range", _with(timestamp=-1)),
    "meter_id_characters": ("bad_meter_id", _with(meterId="m 1/../2")),
    "meter_id_long": ("bad_meter_id", _with(meterId="m" * 100)),
    "status_long": ("bad_status", _with(status="x" * 300)),
    FUTURE: ("future_timestamp", _dumps),
    "ancient_clock": ("too_old", _with(timestamp=YEAR_1999_MS)),
}

VARIANTS: tuple[str, ...] = tuple(_MAKERS)
"""Names of all kinds, in the order in which a run cycles through them."""


def expected_reason(variant: str) -> str:
    """Return the rejection reason (a name of `rejections.json`) a record of this kind must get."""
    return _MAKERS[variant][0]


def make_malformed(variant: str, value: bytes) -> bytes | None:
    """Return the record of this kind made from the bytes of a good reading; None is a tombstone."""
    return _MAKERS[variant][1](json.loads(value))
