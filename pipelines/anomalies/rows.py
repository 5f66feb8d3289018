"""AnomalyEvents as rows of the table anomalies, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pipelines.anomalies.events import Event
from pipelines.contract import message

_EVENT = message("anomaly_event")
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)
EVENT_SCHEMA: pa.Schema = to_arrow_schema(
    T.StructType([T.StructField(field.column, field.column_type) for field in _EVENT.fields]), timezone="UTC"
)
"""The columns of the table anomalies but those of Kafka; times are UTC microseconds."""


def event_rows(events: Sequence[Event]) -> pa.Table:
    """One row per event in EVENT_SCHEMA; epoch milliseconds become timestamps."""
    columns = [
        pa.array([event[field.name] for event in events], pa.int64()).cast(pa.timestamp("ms", "UTC")).cast(column.type)
        if field.type == "epoch_ms"
        else pa.array([event[field.name] for event in events], column.type)
        for field, column in zip(_EVENT.fields, EVENT_SCHEMA, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=EVENT_SCHEMA)


def anomaly_rows(events: Sequence[Event]) -> list[dict[str, Any]]:
    """The same as rows of the table: the Kafka columns are null."""
    nowhere = {"kafka_partition": None, "kafka_offset": None, "kafka_ts": None}
    return [row | nowhere | {"event_date": row["event_ts"].date()} for row in event_rows(events).to_pylist()]


def anomaly_events(rows: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """The events of rows of the table; `detectedAt` is null, the sender sets it."""
    for row in rows:
        event = {
            f.name: (row[f.column] - _EPOCH) // _MILLISECOND
            if f.type == "epoch_ms" and row[f.column] is not None
            else row[f.column]
            for f in _EVENT.fields
        }
        yield event | {"detectedAt": None}
