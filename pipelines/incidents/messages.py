"""Records of Kafka to anomalies and ticks, and incidents to records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Annotated, Any, TypedDict

import msgspec
from pyspark.sql import types as T

from pipelines.anomalies.rules import RANKS
from pipelines.broker.records import Record
from pipelines.contract import message
from pipelines.incidents.rows import epoch_ms
from pipelines.incidents.ticks import Tick

Row = dict[str, Any]

_EPOCH = datetime.fromtimestamp(0, UTC)
_LONG = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_INT = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
_SCALARS: dict[type[T.DataType], Any] = {
    T.StringType: str,
    T.LongType: _LONG,
    T.IntegerType: _INT,
    T.DoubleType: float,
}
_SEVERITIES = ("INFO", *RANKS)
_NEEDED = ("anomaly_id", "anomaly_type", "severity", "event_ts")


def anomaly_row(value: bytes | None, *, partition: int, offset: int, kafka_ms: int) -> Row | None:
    """The row of the table anomalies of a record of the topic; None for a record that is no AnomalyEvent.

    Times are aware. Fields that the contract does not know are left out.
    """
    try:
        document = _events().decode(value or b"")
        row = {f.column: _stored(document.get(f.name), f.type) for f in message("anomaly_event").fields}
        kafka_ts = moment_of(kafka_ms)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
        return None
    if any(row[name] is None for name in _NEEDED) or row["severity"] not in _SEVERITIES:
        return None
    if row["meter_id"] is None and row["feeder_id"] is None:
        return None
    return row | {
        "kafka_partition": partition, "kafka_offset": offset, "kafka_ts": kafka_ts, "event_date": row["event_ts"].date()
    }  # fmt: skip


def tick_of(value: bytes | None, *, partition: int, offset: int) -> Tick | None:
    """The tick of a record of the topic; None for a record that is no WindowTick."""
    try:
        document = _ticks().decode(value or b"")
        archived = document.get("archived")
        offsets = None if archived is None else {int(name): at for name, at in archived.items()}
        return Tick(moment_of(document["windowEnd"]), partition, offset, offsets)
    except (msgspec.MsgspecError, KeyError, ValueError, TypeError, OverflowError):
        return None


def incident_records(rows: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    """Records of incidents, for the compacted topic: the id and the whole row."""
    fields = message("incident").fields
    for row in rows:
        document = {f.name: _on_wire(row[f.column], f.type) for f in fields}
        yield row["incident_id"].encode(), msgspec.json.encode(document), []


def tombstones(gone: Iterable[str]) -> Iterator[Record]:
    """Records that say that incidents are gone, by id."""
    for incident_id in gone:
        yield incident_id.encode(), None, []


def moment_of(ms: int) -> datetime:
    """An aware time of epoch milliseconds."""
    return _EPOCH + timedelta(milliseconds=ms)


@cache
def _events() -> Any:
    return msgspec.json.Decoder(_typed("AnomalyEvent", message("anomaly_event").wire_schema))


@cache
def _ticks() -> Any:
    return msgspec.json.Decoder(_typed("WindowTick", message("window_tick").wire_schema))


def _typed(name: str, schema: T.StructType) -> Any:
    """What msgspec reads a document of a Spark schema as: any field may be missing or null, others are passed over."""
    fields = {field.name: _read_as(field.name, field.dataType) | None for field in schema.fields}
    typed_dict: Any = TypedDict  # its functional form is for fields that are known when this is written
    return typed_dict(name, fields, total=False)


def _read_as(name: str, kind: T.DataType) -> Any:
    if isinstance(kind, T.StructType):
        return _typed(name, kind)
    if isinstance(kind, T.MapType):
        return dict[str, _LONG]
    return _SCALARS[type(kind)]


def _stored(value: Any, kind: str) -> Any:
    return moment_of(value) if kind == "epoch_ms" and value is not None else value


def _on_wire(value: Any, kind: str) -> Any:
    return epoch_ms(value) if kind == "epoch_ms" and value is not None else value
