"""What is wrong with a record: one named reason, the first that fits, in the order of `conf/contracts/rejections.json`.

Nearly all records never come here: `decode` proves them right with less. This module looks at the others. It alone
names reasons, and decides which values of a reading are kept in `extra`.
"""

from __future__ import annotations

import json
import math
import re
import sys
from dataclasses import dataclass
from typing import Any

from pipelines.contract import message
from pipelines.settings import Input, InputFields

MAX_DEPTH = 256
"""Objects and arrays may be nested this deep: one limit for all readers, whatever their own stack holds."""

_SPACE = " \t\r\n"
_OTHER_JSON = re.compile(r'\[|"|-?[0-9]|(?:true|false|null)\Z')
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_NOT_FINITE = frozenset(("NaN", "Infinity", "+Infinity", "-Infinity", "INF", "+INF", "-INF"))
"""Texts that say, in the place of a number, that it is not finite."""
_MOST_SECONDS = 1e15
_SURELY_DOUBLE = 300
"""An integer of fewer characters fits into a double."""


Range = tuple[float, float]
"""Least and largest legal value."""


@dataclass(slots=True)
class Reading:
    """An accepted reading in our units; `extra` is a JSON object of what was kept beside it, or None."""

    meter_id: str
    event_ms: int
    voltage_v: float
    current_a: float | None
    temperature_c: float | None
    status: str | None
    extra: str | None


class Units:
    """From the units of the user's documents to ours."""

    def __init__(self, fields: InputFields) -> None:
        self._fields = fields

    @property
    def are_ours(self) -> bool:
        """Whether nothing has to be converted."""
        fields = self._fields
        return (fields.timestamp_unit, fields.temperature_unit) == ("ms", "C") and (
            fields.voltage_scale == fields.current_scale == 1
        )

    @property
    def takes_ms(self) -> bool:
        """Whether times are whole milliseconds."""
        return self._fields.timestamp_unit == "ms"

    def event_ms(self, timestamp: float) -> int:
        """Epoch milliseconds; -1, which is out of range, for seconds that no calendar has."""
        if self.takes_ms:
            return int(timestamp)
        return math.floor(timestamp * 1000 + 0.5) if abs(timestamp) < _MOST_SECONDS else -1

    def volts(self, voltage: float) -> float:
        """Volts."""
        return voltage * self._fields.voltage_scale

    def amperes(self, current: float | None) -> float | None:
        """Amperes."""
        return None if current is None else current * self._fields.current_scale

    def celsius(self, temperature: float | None) -> float | None:
        """Degrees Celsius."""
        if temperature is None or self._fields.temperature_unit == "C":
            return temperature
        return (temperature - 32) * (5 / 9) if self._fields.temperature_unit == "F" else temperature - 273.15


class Checks:
    """All checks of a record, by the contract and by the user's `input`."""

    def __init__(self, source: Input) -> None:
        self._names, self._unit = source.fields.names, source.fields.timestamp_unit
        self.units = Units(source.fields)
        self.oldest_ms, self.newest_ms = -int(source.max_age * 1000), int(source.max_skew * 1000)

    def judge(self, value: bytes | None, kafka_ms: int) -> Reading | str:
        """The reading in a record, or the reason why there is none.

        `kafka_ms` is the broker's time, epoch milliseconds: the only clock, so a replay decides the same.
        """
        if value is None or not value.strip(_SPACE.encode()):
            return "empty_value"
        try:
            text = value.decode().strip(_SPACE)
        except UnicodeDecodeError:
            return "not_utf8"
        if not text.startswith("{"):
            return "not_an_object" if _OTHER_JSON.match(text) else "malformed_json"
        if is_too_deep(text):
            return "malformed_json"
        try:
            document, end = _STRICT.raw_decode(text)
        except ValueError:
            return "malformed_json"
        if "\\u" in text and not _is_unicode(document):
            return "malformed_json"
        return "trailing_content" if end < len(text) else self._judge_document(document, kafka_ms)

    def _judge_document(self, document: dict[str, Any], kafka_ms: int) -> Reading | str:
        meter_id, timestamp, voltage, current, temperature, status = map(document.get, self._names)
        measured = self._names[2:5]
        if _holds_constant([value for name, value in document.items() if name not in measured]):
            return "malformed_json"
        if not (_is_text(meter_id) and _is_text(status) and self._is_time(timestamp)
                and _is_number(voltage) and _is_number(current) and _is_number(temperature)):  # fmt: skip
            return "malformed_json" if _holds_constant([voltage, current, temperature]) else "wrong_type"
        if not meter_id:
            return "missing_meter_id"
        if timestamp is None:
            return "missing_timestamp"
        if voltage is None:
            return "missing_measurement"
        reading = Reading(
            meter_id, self.units.event_ms(_double(timestamp)), self.units.volts(_double(voltage)),
            self.units.amperes(_double(current)), self.units.celsius(_double(temperature)), status, None,
        )  # fmt: skip
        return self._reason(reading, kafka_ms) or self._keep(reading, document)

    def _reason(self, reading: Reading, kafka_ms: int) -> str | None:
        """What is wrong with the values of a reading that has all it needs."""
        if not math.isfinite(reading.voltage_v):
            return "not_finite"
        if not (is_in_range(reading.event_ms, EVENT_MS) and is_in_range(reading.voltage_v, VOLTAGE_V)):
            return "out_of_range"
        if not is_meter_id(reading.meter_id):
            return "bad_meter_id"
        if reading.status is not None and not is_status(reading.status):
            return "bad_status"
        age_ms = reading.event_ms - kafka_ms
        if age_ms > self.newest_ms:
            return "future_timestamp"
        return "too_old" if age_ms < self.oldest_ms else None

    def _keep(self, reading: Reading, document: dict[str, Any]) -> Reading:
        """The reading with `extra`: fields that the contract does not know, and impossible values as they came."""
        _, _, _, current, temperature, _ = self._names
        impossible = []
        if reading.current_a is not None and not is_in_range(reading.current_a, CURRENT_A):
            reading.current_a = None
            impossible.append(current)
        if reading.temperature_c is not None and not is_in_range(reading.temperature_c, TEMPERATURE_C):
            reading.temperature_c = None
            impossible.append(temperature)
        kept = {name: value for name, value in document.items() if name in impossible or name not in self._names}
        if kept:
            reading.extra = json.dumps(kept, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
        return reading

    def _is_time(self, value: Any) -> bool:
        if self._unit == "s":
            return _is_number(value)
        return value is None or (type(value) is int and -(2**63) <= value < 2**63)


class _Constant(str):
    """A bare NaN or Infinity, which is not JSON; in a measurement `not_finite` says it better."""


class _Beyond(str):
    """A number that no double holds, as it is in the document."""


_NUMBERS = (int, float, _Constant, _Beyond)


def is_in_range(value: float, allowed: Range) -> bool:
    """Whether a value is in a range; NaN never is."""
    least, largest = allowed
    return least <= value <= largest


def is_meter_id(text: str) -> bool:
    """Whether a text is within the contract's limits of a meter id."""
    return len(text) <= LONGEST_METER_ID and _matches_meter_id(text) is not None


def is_status(text: str) -> bool:
    """Whether a text is within the contract's limits of a status."""
    return len(text) <= LONGEST_STATUS


def is_too_deep(text: str) -> bool:
    """Whether objects and arrays are nested deeper than `MAX_DEPTH`."""
    if text.count("{") + text.count("[") <= MAX_DEPTH:
        return False
    depth = 0
    for found in _NESTING.finditer(text):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(found.group(), 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _range(column: str) -> Range:
    field = message("sensor_reading").field(column)
    return (-math.inf if field.minimum is None else field.minimum, math.inf if field.maximum is None else field.maximum)


def _longest(column: str) -> int:
    limit = message("sensor_reading").field(column).max_length
    return sys.maxsize if limit is None else limit


EVENT_MS, VOLTAGE_V = _range("event_ts"), _range("voltage_v")
CURRENT_A, TEMPERATURE_C = _range("current_a"), _range("temperature_c")
LONGEST_STATUS, LONGEST_METER_ID = _longest("status"), _longest("meter_id")
_matches_meter_id = re.compile(message("sensor_reading").field("meter_id").pattern or ".*").fullmatch


def _integer(digits: str) -> Any:
    return int(digits) if len(digits) < _SURELY_DOUBLE or math.isfinite(float(digits)) else _Beyond(digits)


def _fraction(digits: str) -> Any:
    number = float(digits)
    return number if math.isfinite(number) else _Beyond(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        raise ValueError("a field is repeated")
    return document


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_fraction, parse_constant=_Constant
)


def _is_unicode(document: Any) -> bool:
    """Whether no text is half a surrogate pair, which is no character."""
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _holds_constant(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_constant, value.values()))
    return any(map(_holds_constant, value)) if isinstance(value, list) else isinstance(value, _Constant)


def _is_text(value: Any) -> bool:
    return value is None or type(value) is str


def _is_number(value: Any) -> bool:
    return (
        value is None
        or type(value) in (int, float, _Constant, _Beyond)
        or (type(value) is str and value in _NOT_FINITE)
    )


def _double(value: Any) -> Any:
    return None if value is None else float(value)
