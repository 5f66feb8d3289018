"""Readings as the bytes of the wire contract: compact JSON, fields in the contract's order."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from generator.contracts import reading_fields
from generator.faults import STATUSES, Block

_FIELDS = reading_fields()
_TEMPLATE = "{" + ",".join(json.dumps(field.name) + ":%s" for field in _FIELDS) + "}"
_STATUS_TOKENS = tuple(json.dumps(status) for status in STATUSES)
_TIME = next(field.name for field in _FIELDS if field.type == "epoch_ms")


def encode_readings(block: Block, meter_id: Sequence[str]) -> list[bytes]:
    """Return the SensorReading JSON (UTF-8) of every row; `meter_id` is the id by meter index.

    Ids must need no escaping, as the contract's pattern makes sure.
    """
    tokens: dict[str, Iterable[str]] = {
        "meter_id": [f'"{meter_id[index]}"' for index in block.meter.tolist()],
        "event_ts": map(str, block.ts.tolist()),
        "voltage_v": map(repr, block.voltage_v.tolist()),
        "current_a": map(repr, block.current_a.tolist()),
        "temperature_c": map(repr, block.temperature_c.tolist()),
        "status": [_STATUS_TOKENS[index] for index in block.status.tolist()],
    }
    rows = zip(*(tokens[field.column] for field in _FIELDS), strict=True)
    return [(_TEMPLATE % row).encode() for row in rows]


def restamp(value: bytes, event_ms: int) -> bytes:
    """Return the reading with another event time (epoch ms)."""
    reading = json.loads(value)
    reading[_TIME] = event_ms
    return json.dumps(reading, separators=(",", ":")).encode()
