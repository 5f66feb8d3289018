"""The reading rules over a Spark frame: for files and for the archive, where all readings are there at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pipelines.contract import message
from pipelines.settings import Detection

_EVENT = message("anomaly_event")
_SCHEMA = T.StructType([T.StructField(field.column, field.column_type) for field in _EVENT.fields])
_READING = ("meter_id", "voltage_v", "current_a", "temperature_c", "status")
_COORDINATES = ("kafka_topic", "kafka_partition", "kafka_offset")
_METER = ("feeder_id", "nominal_voltage_v", "rated_current_a")


def reading_anomalies(placed: DataFrame, *, detection: Detection) -> DataFrame:
    """Anomalies of stage reading, in the columns of the contract, without voltage_deviation: it depends on which
    window a stream had closed last.

    In: readings of the table with the columns of `attach_meters`; kafka_item may be missing. Out: detected_at is null.
    Judged by Polars in Spark's Python workers, a batch of rows at a time.
    """
    limits = [name for name in placed.columns if name.startswith("limit_")]
    item = "kafka_item" if "kafka_item" in placed.columns else F.lit(None).alias("kafka_item")
    needed: list[str | Column] = [
        *_READING,
        *_COORDINATES,
        *_METER,
        *limits,
        F.unix_millis("event_ts").alias("event_ms"),
        F.unix_millis("kafka_ts").alias("kafka_ms"),
        item,
    ]
    return placed.select(*needed).mapInArrow(partial(_judge, detection), _SCHEMA)


def _judge(detection: Detection, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    # Polars is imported here, in the worker: a process that forks after it has used Polars hangs.
    import polars as pl

    from pipelines.readings.judge import reading_events
    from pipelines.readings.rules import ReadingRules

    rules, schema = ReadingRules(detection), to_arrow_schema(_SCHEMA, timezone="UTC")
    for batch in batches:
        events = reading_events(pl.DataFrame(batch), rules)
        yield _as_rows(events, schema)


def _as_rows(events: list[dict[str, Any]], schema: pa.Schema) -> pa.RecordBatch:
    """Events in the columns of the table; epoch milliseconds become timestamps."""
    columns = [
        pa.array([event[field.name] for event in events], pa.int64()).cast(pa.timestamp("ms", "UTC")).cast(column.type)
        if field.type == "epoch_ms"
        else pa.array([event[field.name] for event in events], column.type)
        for field, column in zip(_EVENT.fields, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
