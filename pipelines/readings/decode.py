"""Kafka records to typed readings: one strict parse per record, and a closer look at the odd ones.

A record is proved right by a msgspec struct with the user's field names and the contract's limits. Two things such a
struct does not see: a field that is repeated, and fields that it does not know. Both leave more quotation marks in the
document than the fields that were read account for, so counting them is the proof (docs/adr/0021).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipelines.readings.checks import (
    CURRENT_A,
    EVENT_MS,
    LONGEST_METER_ID,
    LONGEST_STATUS,
    TEMPERATURE_C,
    VOLTAGE_V,
    Checks,
    Range,
    Units,
    is_in_range,
    is_meter_id,
)  # fmt: skip
from pipelines.settings import Input, InputFields

_REMEMBERED_IDS = 100_000
_REFUSED = (msgspec.DecodeError, TypeError, RecursionError, OverflowError)
"""What msgspec raises for a wrong document, a tombstone, one nested too deep for its stack, and one it cannot write."""
_QUOTE = b'"'
_ALL_QUOTES = 16
"""Quotation marks of a document with all six fields, of which two are texts."""
_NESTED_EXTRA = 8
"""Unknown fields nested deeper are read by the slow path."""
_read_anything = msgspec.json.Decoder().decode


class Rejection(NamedTuple):
    """What is rejected: index of the record, place of the reading in it (0 for the whole record), reason."""

    row: int
    item: int
    reason: str


@dataclass(slots=True)
class Decoded:
    """Outcome of a sequence of records: columns of the accepted readings, of equal length, and what is rejected.

    `rows`: index of each reading's record, ascending. `items`: its place in the record, 0 in a flat one. Units are
    ours; event_ms is epoch milliseconds. current_a, temperature_c, status and extra (a JSON object) may be None.
    `rejections`: one per bad item, in order.
    """

    rows: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    meter_id: list[str] = field(default_factory=list)
    event_ms: list[int] = field(default_factory=list)
    voltage_v: list[float] = field(default_factory=list)
    current_a: list[float | None] = field(default_factory=list)
    temperature_c: list[float | None] = field(default_factory=list)
    status: list[str | None] = field(default_factory=list)
    extra: list[str | None] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)


class Decoder:
    """Decodes records by the user's `input`. Can be pickled; remembers nothing that changes an outcome."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self._checks = Checks(source)
        self._units = None if self._checks.units.are_ours else self._checks.units
        self._read = _reader(source.fields, self._checks.units)
        self._meters: set[str] = set()

    def __reduce__(self) -> tuple[type[Decoder], tuple[Input]]:
        return Decoder, (self._source,)

    def decode(self, values: Sequence[bytes | None], kafka_ms: Sequence[int]) -> Decoded:
        """Every record gets its outcome: a reading, or the first reason that fits.

        `values` are the records' bytes, `kafka_ms` the broker's times (epoch ms), of equal length. The outcome of a
        record depends on its bytes, its time and the settings only. No value raises.
        """
        units, meters = self._units, self._meters
        oldest_ms, newest_ms = self._checks.oldest_ms, self._checks.newest_ms
        readings, extras, rejections = self._parse(values), dict[int, str | None](), list[Rejection]()
        for row, (reading, value, at_ms) in enumerate(zip(readings, values, kafka_ms, strict=True)):
            if reading is not None and value is not None:
                quotes = _ALL_QUOTES
                if reading.status is None:
                    quotes -= 2
                elif reading.status is UNSET:
                    quotes, reading.status = quotes - 4, None
                if reading.current_a is UNSET:
                    quotes, reading.current_a = quotes - 2, None
                if reading.temperature_c is UNSET:
                    quotes, reading.temperature_c = quotes - 2, None
                if (
                    (units is None or _convert(reading, units))
                    and oldest_ms <= reading.event_ms - at_ms <= newest_ms
                    and (reading.meter_id in meters or self._is_meter(reading.meter_id))
                ):
                    found = value.count(_QUOTE)
                    if found == quotes:
                        continue
                    extra = self._extra(value, found - quotes)
                    if extra is not None:
                        extras[row] = extra
                        continue
            outcome = self._checks.judge(value, at_ms)
            if isinstance(outcome, str):
                rejections.append(Rejection(row, 0, outcome))
                readings[row] = None
            else:
                readings[row], extras[row] = outcome, outcome.extra
        return _columns(readings, extras, rejections)

    def _parse(self, values: Sequence[bytes | None]) -> list[Any]:
        """A struct of each document, None where msgspec refuses it."""
        if self._read is None:
            return [None] * len(values)
        readings: list[Any] = []
        rest = iter(values)
        while len(readings) < len(values):
            try:
                readings.extend(map(self._read, rest))  # what came before one that is refused stays in the list
            except _REFUSED:
                readings.append(None)
        return readings

    def _is_meter(self, meter_id: str) -> bool:
        if not is_meter_id(meter_id):
            return False
        if len(self._meters) >= _REMEMBERED_IDS:
            self._meters.clear()
        self._meters.add(meter_id)
        return True

    def _extra(self, value: bytes, quotes: int) -> str | None:
        """The unknown fields of a document, if they account for these quotation marks; else it is not proved right."""
        if b'\\"' in value:
            return None
        try:
            document = _read_anything(value)
            for name in self._source.fields.names:
                document.pop(name, None)
            for unknown in document.values():
                quotes -= 2 if unknown.__class__ in _WITHOUT_QUOTES else 2 + _quotes(unknown, _NESTED_EXTRA)
            return msgspec.json.encode(document).decode() if quotes == 0 else None
        except _REFUSED:
            return None


_WITHOUT_QUOTES = (int, float, bool, type(None))


def _quotes(value: Any, depth: int) -> int:
    """Quotation marks around the texts of a JSON value; too many for one that is nested deeper than `depth`."""
    if isinstance(value, str):
        return 2
    if not isinstance(value, (dict, list)):
        return 0
    if not depth:
        return 1 << 40
    if isinstance(value, dict):
        return 2 * len(value) + sum(_quotes(one, depth - 1) for one in value.values())
    return sum(_quotes(one, depth - 1) for one in value)


def _convert(reading: Any, units: Units) -> bool:
    """Bring a struct to our units; False when a value is out of range then."""
    reading.event_ms = units.event_ms(reading.event_ms)
    reading.voltage_v = units.volts(reading.voltage_v)
    reading.current_a = units.amperes(reading.current_a)
    reading.temperature_c = units.celsius(reading.temperature_c)
    return (
        is_in_range(reading.event_ms, EVENT_MS)
        and is_in_range(reading.voltage_v, VOLTAGE_V)
        and (reading.current_a is None or is_in_range(reading.current_a, CURRENT_A))
        and (reading.temperature_c is None or is_in_range(reading.temperature_c, TEMPERATURE_C))
    )


def _reader(fields: InputFields, units: Units) -> Callable[[Any], Any] | None:
    """Parser of an ordinary document; None when msgspec cannot have one of the user's names in a struct."""
    if any(mark in name or min(name) < " " for name in fields.names for mark in '"\\'):
        return None
    ours = units.are_ours

    def number(kind: type, allowed: Range) -> Any:
        return Annotated[kind, Meta(ge=kind(allowed[0]), le=kind(allowed[1]))] if ours else kind

    optional = (
        ("current_a", number(float, CURRENT_A) | None | UnsetType, UNSET),
        ("temperature_c", number(float, TEMPERATURE_C) | None | UnsetType, UNSET),
        ("status", Annotated[str, Meta(max_length=LONGEST_STATUS)] | None | UnsetType, UNSET),
    )
    needed = (
        ("meter_id", Annotated[str, Meta(min_length=1, max_length=LONGEST_METER_ID)]),
        ("event_ms", number(int, EVENT_MS) if fields.timestamp_unit == "ms" else float),
        ("voltage_v", number(float, VOLTAGE_V)),
    )
    columns = [column for column, *_ in (*needed, *optional)]
    struct = msgspec.defstruct(
        "Document", [*needed, *optional], rename=dict(zip(columns, fields.names, strict=True)), gc=False
    )
    return msgspec.json.Decoder(struct).decode


def _columns(readings: list[Any], extras: dict[int, str | None], rejections: list[Rejection]) -> Decoded:
    if rejections:
        rows = [row for row, reading in enumerate(readings) if reading is not None]
        readings = [readings[row] for row in rows]
    else:
        rows = list(range(len(readings)))
    return Decoded(
        rows=rows,
        items=[0] * len(rows),
        meter_id=[reading.meter_id for reading in readings],
        event_ms=[reading.event_ms for reading in readings],
        voltage_v=[reading.voltage_v for reading in readings],
        current_a=[reading.current_a for reading in readings],
        temperature_c=[reading.temperature_c for reading in readings],
        status=[reading.status for reading in readings],
        extra=[extras.get(row) for row in rows] if extras else [None] * len(rows),
        rejections=rejections,
    )
