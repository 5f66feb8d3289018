"""AnomalyEvents as rows: the columns of the contract, in Arrow."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pipelines.anomalies.events import Event
from pipelines.contract import message

_EVENT = message("anomaly_event")
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
