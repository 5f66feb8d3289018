"""Frames for tests: Kafka records, readings, windows and anomalies, with only what matters written out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import types as T

from pipelines.settings import Settings
from pipelines.tables import ANOMALIES, METER_WINDOWS, METERS, READINGS

NOON = datetime(2026, 3, 1, 12, 0)
"""Naive means UTC: what PySpark hands out."""
NOON_MS = int(NOON.replace(tzinfo=UTC).timestamp() * 1000)

KAFKA_SCHEMA = T.StructType(
    [
        T.StructField("key", T.BinaryType()),
        T.StructField("value", T.BinaryType()),
        T.StructField("topic", T.StringType()),
        T.StructField("partition", T.IntegerType()),
        T.StructField("offset", T.LongType()),
        T.StructField("timestamp", T.TimestampType()),
    ]
)
TOPOLOGY_FIELDS = [
    T.StructField("feeder_id", T.StringType()),
    T.StructField("phase", T.StringType()),
    T.StructField("nominal_voltage_v", T.DoubleType()),
    T.StructField("rated_current_a", T.DoubleType()),
]
_DAY = ("p99_deviation_v", "p99_noise_v", "residual_offset_v", "cadence_s")
_HOUR = ("own_low_v", "own_high_v", "own_deviation_v", "own_noise_v")
PROFILE_FIELDS = [T.StructField(name, T.DoubleType()) for name in (*_DAY, *_HOUR)]
READING = {
    "meterId": "m1",
    "timestamp": NOON_MS,
    "voltage": 230.0,
    "current": 5.0,
    "temperature": 20.0,
    "status": "OK",
}

Values = Mapping[str, Any]


def at(seconds: float) -> datetime:
    """Noon of the test day plus seconds, UTC."""
    return NOON + timedelta(seconds=seconds)


def utc(seconds: float) -> datetime:
    """The same, aware."""
    return at(seconds).replace(tzinfo=UTC)


def ms(seconds: float) -> int:
    """The same as epoch milliseconds."""
    return NOON_MS + round(seconds * 1000)


def settings(**sections: Any) -> Settings:
    """Settings with some sections changed: `settings(detection={"sigma": 3})`."""
    return Settings.model_validate(sections)


def document(**changes: Any) -> bytes:
    """A valid SensorReading as compact JSON, with changes."""
    return json.dumps({**READING, **changes}, separators=(",", ":")).encode()


def kafka_frame(
    spark: SparkSession,
    values: Sequence[bytes | None],
    *,
    topic: str = "sensor-readings",
    partition: int = 0,
    first_offset: int = 0,
    kafka_ts: datetime = NOON,
) -> DataFrame:
    """Kafka records with consecutive offsets, in the columns of the Kafka source."""
    rows = [
        (b"k", None if value is None else bytearray(value), topic, partition, first_offset + i, kafka_ts)
        for i, value in enumerate(values)
    ]
    return spark.createDataFrame(rows, KAFKA_SCHEMA)


def frame(spark: SparkSession, schema: T.StructType, rows: Iterable[Values], defaults: Values) -> DataFrame:
    """Rows given as dictionaries over defaults; a column in neither is null."""
    complete = complete_rows(schema, rows, defaults)
    return spark.createDataFrame([tuple(row.values()) for row in complete], schema)


def complete_rows(schema: T.StructType, rows: Iterable[Values], defaults: Values) -> list[dict[str, Any]]:
    """The same rows as dictionaries of all columns."""
    names = schema.fieldNames()
    complete = [{**defaults, **row} for row in rows]
    for row in complete:
        if unknown := set(row) - set(names):
            raise KeyError(f"no column {', '.join(sorted(unknown))}")
    return [{name: row.get(name) for name in names} for row in complete]


READING_DEFAULTS: dict[str, Any] = {
    "meter_id": "m1", "voltage_v": 230.0, "current_a": 5.0, "temperature_c": 20.0, "status": "OK",
    "is_plausible": True, "is_in_band": True, "is_late": False, "is_resent": False,
    "kafka_topic": "sensor-readings", "kafka_partition": 0, "kafka_offset": 0, "kafka_ts": NOON,
}  # fmt: skip


def readings_frame(spark: SparkSession, rows: Iterable[Values], **defaults: Any) -> DataFrame:
    """Rows of the table readings; event_date follows event_ts."""
    return frame(spark, READINGS.schema, *reading_rows(rows, defaults))


def reading_rows(rows: Iterable[Values], defaults: Values) -> tuple[list[Values], Values]:
    """Rows and defaults of `readings_frame`."""
    dated = [{"event_date": _date(row.get("event_ts", defaults.get("event_ts"))), **row} for row in rows]
    return dated, {**READING_DEFAULTS, **defaults}


def placed_frame(spark: SparkSession, rows: Iterable[Values], **defaults: Any) -> DataFrame:
    """Readings with their meter's topology, as the reading rules take them: 230 V and 40 A on feeder f1."""
    schema = T.StructType([*READINGS.schema.fields, *TOPOLOGY_FIELDS])
    topology = {"feeder_id": "f1", "nominal_voltage_v": 230.0, "rated_current_a": 40.0, "event_ts": NOON}
    return frame(spark, schema, rows, {**READING_DEFAULTS, **topology, **defaults})


def meters_frame(spark: SparkSession, rows: Iterable[Values]) -> DataFrame:
    """Rows of the table meters."""
    return frame(spark, METERS.schema, rows, METER_DEFAULTS)


METER_DEFAULTS: Values = {"feeder_id": "f1", "nominal_voltage_v": 230.0, "rated_current_a": 40.0}


def windows_frame(
    spark: SparkSession,
    rows: Iterable[Values],
    *,
    window_s: float = 300.0,
    placed: bool = True,
    **defaults: Any,
) -> DataFrame:
    """Rows of meter_windows ending at `end` (seconds after noon), full of ordinary readings by default.

    `placed` adds topology and profile, as `attach_meters` and `attach_profiles` do.
    """
    return frame(spark, *window_rows(rows, window_s, placed=placed, defaults=defaults))


def window_rows(
    rows: Iterable[Values], window_s: float, *, placed: bool, defaults: Values
) -> tuple[T.StructType, list[Values], Values]:
    """Schema, rows and defaults of `windows_frame`."""
    ordinary = {
        "meter_id": "m1", "n": 30, "base_n": 24, "base_mean_v": 230.0, "base_std_v": 0.5, "tested_n": 6,
        "tested_mean_v": 230.0, "tested_std_v": 0.5, "tested_min_v": 229.5, "tested_max_v": 230.5,
        "plausible_n": 30, "mean_v": 230.0, "std_v": 0.5, "min_v": 229.0, "max_v": 231.0,
        "max_current_a": 5.0,
        "min_temperature_c": 20.0, "max_temperature_c": 20.0,
    }  # fmt: skip
    if placed:
        ordinary |= METER_DEFAULTS
    added = [*TOPOLOGY_FIELDS, *PROFILE_FIELDS] if placed else []
    taken = {field.name for field in added}
    schema = T.StructType([*(field for field in METER_WINDOWS.schema.fields if field.name not in taken), *added])
    return schema, [_window(row, window_s) for row in rows], {**ordinary, **defaults}


SILENT_WINDOW: dict[str, Any] = {
    "n": 0, "base_n": None, "base_mean_v": None, "base_std_v": None, "tested_n": None, "tested_mean_v": None,
    "tested_std_v": None, "tested_min_v": None, "tested_max_v": None, "plausible_n": None, "mean_v": None,
    "std_v": None, "min_v": None, "max_v": None, "max_current_a": None, "min_temperature_c": None,
    "max_temperature_c": None,
}  # fmt: skip
"""What `complete_fleet` leaves of a window without readings; add meter_id, end and last."""


def anomalies_frame(spark: SparkSession, rows: Iterable[Values]) -> DataFrame:
    """Rows of the table anomalies; the id follows type, scope and time unless given."""
    return frame(spark, ANOMALIES.schema, [anomaly_values(row) for row in rows], {})


def anomaly_row(row: Values) -> dict[str, Any]:
    """The same row as the Delta library reads it: plain Python, aware times."""
    values = dict.fromkeys(ANOMALIES.column_names) | anomaly_values(row)
    return values | {"event_ts": utc(row["t"])}


def by(rows: Iterable[Row], *names: str) -> dict[Any, Row]:
    """Rows by the value of one or more columns; a repeated key is an error."""
    found: dict[Any, Row] = {}
    for row in rows:
        key = row[names[0]] if len(names) == 1 else tuple(row[name] for name in names)
        if key in found:
            raise KeyError(f"{key} stands twice")
        found[key] = row
    return found


def _window(row: Values, window_s: float) -> dict[str, Any]:
    values = dict(row)
    end = values.pop("end")
    last = values.pop("last", end - 10)
    return {
        "window_start": at(end - window_s), "window_end": at(end), "window_date": _date(at(end)),
        "last_event_ts": at(last), **values,
    }  # fmt: skip


def anomaly_values(row: Values) -> dict[str, Any]:
    """The values of a row of `anomalies_frame`."""
    values = {
        "meter_id": "m1",
        "feeder_id": "f1",
        "severity": "WARNING",
        "stage": "reading",
        "score": 1.0,
        **row,
    }
    event_ts = at(values.pop("t"))
    scope = values["meter_id"] or values["feeder_id"]
    identity = f"{values['anomaly_type']}|{scope}|{event_ts:%H:%M:%S.%f}"
    defaults = {
        "anomaly_id": identity, "event_ts": event_ts, "detected_at": NOON, "rule_version": "1",
        "message": f"{values['anomaly_type']} {values['severity']}", "event_date": _date(event_ts),
    }  # fmt: skip
    return {**defaults, **values}


def _date(moment: datetime | None) -> date | None:
    return moment.date() if moment else None
