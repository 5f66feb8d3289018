"""Decoded readings as a Polars frame, for the code that asks questions of rows."""

from __future__ import annotations

import polars as pl

from pipelines.readings.decode import Decoded

READING_COLUMNS: dict[str, pl.DataType | type[pl.DataType]] = {
    "row": pl.Int64,
    "kafka_item": pl.Int32,
    "meter_id": pl.String,
    "event_ms": pl.Int64,
    "voltage_v": pl.Float64,
    "current_a": pl.Float64,
    "temperature_c": pl.Float64,
    "status": pl.String,
    "extra": pl.String,
}


def readings_frame(decoded: Decoded) -> pl.DataFrame:
    """The accepted readings, one row each, in the order of the records; `row`: index of the record.

    Out: READING_COLUMNS. current_a, temperature_c, status and extra may be null.
    """
    values = (
        decoded.rows, decoded.items, decoded.meter_id, decoded.event_ms, decoded.voltage_v, decoded.current_a,
        decoded.temperature_c, decoded.status, decoded.extra,
    )  # fmt: skip
    return pl.DataFrame(dict(zip(READING_COLUMNS, values, strict=True)), schema=READING_COLUMNS)
