"""Kafka records to typed readings: one strict parse per record, and a closer look at the odd ones.

A record is proved right by a msgspec struct with the user's field names and the contract's limits. Two things such a
struct does not see: a field that is repeated, and fields that it does not know. Both leave more quotation marks in the
document than the fields that were read account for, so counting them is the proof (docs/adr/0021).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from pipelines.readings.checks import (
    CURRENT_A,
    EVENT_MS,
    LONGEST_METER_ID,
    LONGEST_STATUS,
    MAX_DEPTH,
    TEMPERATURE_C,
    VOLTAGE_V,
    Checks,
    Range,
    Units,
    is_in_range,
    is_meter_id,
)  # fmt: skip
from pipelines.settings import Input

_REMEMBERED_IDS = 100_000
_REFUSED = (msgspec.DecodeError, TypeError, RecursionError, OverflowError)
"""What msgspec raises for a wrong document, a tombstone, one nested too deep for its stack, and one it cannot write."""
_COLUMNS = ("meter_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status")
_QUOTE, _BACKSLASH = b'"', 92
_ALL_QUOTES = 16
"""Quotation marks of a document with all six fields, of which two are texts."""
_NEVER = 1 << 40
"""More than any document has."""
_LEARNED = 16
"""Most names of unknown fields that are read together with the known ones."""
_read_anything = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder(order="sorted").encode


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
    """Decodes records by the user's `input`, in one thread. What it remembers changes no outcome.

    It can be pickled. A process that unpickles it twice gets one decoder: Spark's workers then build and learn once,
    and not in every task.
    """

    def __init__(self, source: Input) -> None:
        self._source = source
        self._checks = Checks(source)
        self._units = None if self._checks.units.are_ours else self._checks.units
        self._names = dict(zip(_COLUMNS, source.fields.names, strict=True))
        self._unknown: frozenset[str] = frozenset()
        self._seen: set[str] = set()
        self._read, self._kept = _reader(self._names, (), self._units)
        self._meters: set[str] = set()

    def __reduce__(self) -> tuple[Callable[[Input], Decoder], tuple[Input]]:
        return _decoder_of_process, (self._source,)

    def decode(self, values: Sequence[bytes | None], kafka_ms: Sequence[int]) -> Decoded:
        """Every record gets its outcome: a reading, or the first reason that fits.

        `values` are the records' bytes, `kafka_ms` the broker's times (epoch ms), of equal length. The outcome of a
        record depends on its bytes, its time and the settings only. No value raises.
        """
        readings, extras, rejections = self._parse(values), dict[int, str | None](), list[Rejection]()
        for row in self._unproved(readings, values, kafka_ms, extras):
            outcome = self._checks.judge(values[row], kafka_ms[row])
            if isinstance(outcome, str):
                rejections.append(Rejection(row, 0, outcome))
                readings[row] = None
            else:
                readings[row], extras[row] = outcome, outcome.extra
        return _columns(readings, extras, rejections)

    def _parse(self, values: Sequence[bytes | None]) -> list[Any]:
        """A struct of each document, in our units; None where it is not right."""
        self._learn()
        if self._read is None:
            return [None] * len(values)
        readings: list[Any] = []
        rest = iter(values)
        while len(readings) < len(values):
            try:
                readings.extend(map(self._read, rest))  # what came before one that is refused stays in the list
            except _REFUSED:
                readings.append(None)
        if self._units is None:
            return readings
        return [None if reading is None else _converted(reading, self._units) for reading in readings]

    def _unproved(
        self,
        readings: list[Any],
        values: Sequence[bytes | None],
        kafka_ms: Sequence[int],
        extras: dict[int, str | None],
    ) -> Iterator[int]:
        """Rows whose structs are not proved to be right readings; completes the others, and puts what they keep into
        `extras`. One loop without calls, because it runs for every record."""
        meters = self._meters
        (least_a, most_a), (least_c, most_c) = CURRENT_A, TEMPERATURE_C
        oldest_ms, newest_ms = self._checks.oldest_ms, self._checks.newest_ms
        for row, (reading, value, at_ms) in enumerate(zip(readings, values, kafka_ms, strict=True)):
            if reading is None or value is None:
                yield row
                continue
            quotes = _ALL_QUOTES
            current, temperature, status = reading.current_a, reading.temperature_c, reading.status
            if current is UNSET:
                quotes, reading.current_a = quotes - 2, None
            elif current is not None and not least_a <= current <= most_a:
                quotes, reading.current_a = _NEVER, None
            if temperature is UNSET:
                quotes, reading.temperature_c = quotes - 2, None
            elif temperature is not None and not least_c <= temperature <= most_c:
                quotes, reading.temperature_c = _NEVER, None
            if status is None:
                quotes -= 2
            elif status is UNSET:
                quotes, reading.status = quotes - 4, None
            if not (
                oldest_ms <= reading.event_ms - at_ms <= newest_ms
                and (reading.meter_id in meters or self._is_meter(reading.meter_id))
            ):
                yield row
                continue
            found = value.count(_QUOTE)
            if found != quotes:
                extra = self._extra(reading, value, found, quotes)
                if extra is None:
                    yield row
                else:
                    extras[row] = extra

    def _learn(self) -> None:
        """From now on read the unknown fields that were seen together with the known ones, in one pass."""
        if len(self._unknown) < _LEARNED and self._seen - self._unknown:
            self._unknown = frozenset(sorted(self._unknown | self._seen)[:_LEARNED])
            self._read, self._kept = _reader(self._names, sorted(self._unknown), self._units)
        self._seen.clear()

    def _is_meter(self, meter_id: str) -> bool:
        if not is_meter_id(meter_id):
            return False
        if len(self._meters) >= _REMEMBERED_IDS:
            self._meters.clear()
        self._meters.add(meter_id)
        return True

    def _extra(self, reading: Any, value: bytes, found: int, quotes: int) -> str | None:
        """What else a document has, when that accounts for all quotation marks found in it; else None."""
        if len(value) > MAX_DEPTH and value.count(b"{") + value.count(b"[") > MAX_DEPTH:
            return None
        try:
            if self._unknown:
                extra = _write(self._kept(*astuple(reading)[len(_COLUMNS) :]))
                if extra.count(_QUOTE) == found - quotes and _BACKSLASH not in extra:
                    return extra.decode()
            return self._extra_of_all(reading, value, found)
        except _REFUSED:
            return None

    def _extra_of_all(self, reading: Any, value: bytes, found: int) -> str | None:
        """The same from the whole document."""
        document = _read_anything(value)
        text = _write(document)
        if text.count(_QUOTE) != found or _BACKSLASH in text:
            return None
        for column, name in self._names.items():
            if document.get(name) is None or getattr(reading, column) is not None:
                document.pop(name, None)
        if len(self._seen) < _LEARNED:
            self._seen.update(filter(_is_plain_name, document.keys() - self._names.values()))
        return _write(document).decode()


@lru_cache(maxsize=4)
def _decoder_of_process(source: Input) -> Decoder:
    return Decoder(source)


def _converted(reading: Any, units: Units) -> Any:
    """A struct in our units; None when its time or voltage is out of range then."""
    reading.event_ms = units.event_ms(reading.event_ms)
    reading.voltage_v = units.volts(reading.voltage_v)
    if reading.current_a is not UNSET:
        reading.current_a = units.amperes(reading.current_a)
    if reading.temperature_c is not UNSET:
        reading.temperature_c = units.celsius(reading.temperature_c)
    is_right = is_in_range(reading.event_ms, EVENT_MS) and is_in_range(reading.voltage_v, VOLTAGE_V)
    return reading if is_right else None


def _reader(
    names: dict[str, str], unknown: Sequence[str], units: Units | None
) -> tuple[Callable[[Any], Any] | None, Callable[..., Any]]:
    """Parser of an ordinary document to a struct, and the type of a struct of the unknown fields.

    The parser is None when one of the user's names cannot be in a struct.
    """
    columns = [f"unknown_{number}" for number, _ in enumerate(unknown)]
    others: list[Any] = [(column, Any, UNSET) for column in columns]
    renamed = dict(zip(columns, unknown, strict=True))
    kept = msgspec.defstruct("Kept", others, rename=renamed, gc=False)
    if not all(map(_is_plain_name, names.values())):
        return None, kept

    def number(kind: type, allowed: Range) -> Any:
        return Annotated[kind, Meta(ge=kind(allowed[0]), le=kind(allowed[1]))] if units is None else kind

    fields: list[Any] = [
        ("meter_id", Annotated[str, Meta(min_length=1, max_length=LONGEST_METER_ID)]),
        ("event_ms", number(int if units is None or units.takes_ms else float, EVENT_MS)),
        ("voltage_v", number(float, VOLTAGE_V)),
        ("current_a", float | None | UnsetType, UNSET),
        ("temperature_c", float | None | UnsetType, UNSET),
        ("status", Annotated[str, Meta(max_length=LONGEST_STATUS)] | None | UnsetType, UNSET),
    ]
    struct = msgspec.defstruct("Document", [*fields, *others], rename={**names, **renamed}, gc=False)
    return msgspec.json.Decoder(struct).decode, kept


def _is_plain_name(name: str) -> bool:
    """Whether msgspec can have a name in a struct."""
    return not any(mark < " " or mark in '"\\' for mark in name)


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
