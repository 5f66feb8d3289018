"""AnomalyEvents as rows of the table anomalies, and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.anomalies.events import Event
from pipelines.contract import message

_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


def anomaly_rows(events: Iterable[Event]) -> Iterator[dict[str, Any]]:
    """Rows of the table of events that were not sent: times are aware, detected_at and the Kafka columns null."""
    fields = [(f.name, f.column, f.type == "epoch_ms") for f in message("anomaly_event").fields]
    for event in events:
        row = {
            column: _EPOCH + event[name] * _MILLISECOND if is_time and event[name] is not None else event[name]
            for name, column, is_time in fields
        }
        nowhere = {"kafka_partition": None, "kafka_offset": None, "kafka_ts": None}
        yield row | nowhere | {"event_date": row["event_ts"].date()}


def anomaly_events(rows: Iterable[Mapping[str, Any]]) -> Iterator[Event]:
    """The events of rows of the table; `detectedAt` is null, the sender sets it."""
    fields = [(f.name, f.column, f.type == "epoch_ms") for f in message("anomaly_event").fields]
    for row in rows:
        event = {
            name: (row[column] - _EPOCH) // _MILLISECOND if is_time and row[column] is not None else row[column]
            for name, column, is_time in fields
        }
        yield event | {"detectedAt": None}
