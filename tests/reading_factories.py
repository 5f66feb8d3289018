"""Polars frames for tests of readings: only what matters is written out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Detection

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)

Values = Mapping[str, Any]

READING = {
    "meter_id": pl.String(), "event_ms": pl.Int64(), "voltage_v": pl.Float64(), "current_a": pl.Float64(),
    "temperature_c": pl.Float64(), "status": pl.String(), "extra": pl.String(), "kafka_topic": pl.String(),
    "kafka_partition": pl.Int32(), "kafka_offset": pl.Int64(), "kafka_ms": pl.Int64(), "kafka_item": pl.Int32(),
}  # fmt: skip
ORDINARY: dict[str, Any] = {
    "meter_id": "m1", "event_ms": NOON_MS, "voltage_v": 230.0, "current_a": 5.0, "temperature_c": 20.0, "status": "OK",
    "kafka_topic": "sensor-readings", "kafka_partition": 0, "kafka_offset": 0, "kafka_ms": NOON_MS, "kafka_item": 0,
}  # fmt: skip
METER = {
    "meter_id": pl.String(), "feeder_id": pl.String(), "transformer_id": pl.String(), "phase": pl.String(),
    "nominal_voltage_v": pl.Float64(), "rated_current_a": pl.Float64(), "region": pl.String(),
    "meter_class": pl.String(),
}  # fmt: skip
BASELINE = {
    "meter_id": pl.String(), "window_start": pl.Datetime("us", "UTC"), "window_end": pl.Datetime("us", "UTC"),
    "n": pl.Int64(), "mean_v": pl.Float64(), "std_v": pl.Float64(), "p99_deviation_v": pl.Float64(),
}  # fmt: skip


def at(seconds: float) -> datetime:
    """Noon of the test day plus seconds, UTC."""
    return NOON + timedelta(seconds=seconds)


def ms(seconds: float) -> int:
    """The same as epoch milliseconds."""
    return NOON_MS + round(seconds * 1000)


def readings(rows: Iterable[Values], **defaults: Any) -> pl.DataFrame:
    """Accepted readings with their coordinates in Kafka."""
    return _frame(READING, rows, {**ORDINARY, **defaults})


def meters(rows: Iterable[Values]) -> pl.DataFrame:
    """Rows of the table meters: 230 V and 40 A on feeder f1."""
    return _frame(
        METER, rows, {"meter_id": "m1", "feeder_id": "f1", "nominal_voltage_v": 230.0, "rated_current_a": 40.0}
    )


def baselines(rows: Iterable[Values]) -> pl.DataFrame:
    """Rows of the table baselines: 30 readings around 230 V until ten seconds before noon."""
    ordinary = {
        "meter_id": "m1",
        "window_start": at(-310),
        "window_end": at(-10),
        "n": 30,
        "mean_v": 230.0,
        "std_v": 1.0,
    }
    return _frame(BASELINE, rows, ordinary)


def judged(
    rows: Iterable[Values],
    *,
    of: Iterable[Values] = ({},),
    known: Iterable[Values] = (),
    detection: Detection | None = None,
) -> list[dict[str, Any]]:
    """Events of readings `rows`, with meters `of` and baselines `known`."""
    judge = ReadingJudge(detection or Detection(), meters(of), baselines(known))
    return judge.events(readings(rows))


def _frame(schema: dict[str, Any], rows: Iterable[Values], defaults: Values) -> pl.DataFrame:
    complete = [{**defaults, **row} for row in rows]
    if unknown := {name for row in complete for name in row} - set(schema):
        raise KeyError(f"no column {', '.join(sorted(unknown))}")
    return pl.DataFrame(complete, schema=schema)
