"""The wire contract as values: `conf/contracts/*.json` read once, with the Spark types that follow from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from pyspark.sql import types as T

from pipelines.conf_files import conf_text

READING_STRUCT = T.StructType(
    [
        T.StructField("meterId", T.StringType()),
        T.StructField("timestamp", T.LongType()),
        T.StructField("voltage", T.DoubleType()),
        T.StructField("current", T.DoubleType()),
        T.StructField("temperature", T.DoubleType()),
        T.StructField("status", T.StringType()),
    ]
)
BASELINE_STRUCT = T.StructType(
    [
        T.StructField("mean", T.DoubleType()),
        T.StructField("std", T.DoubleType()),
        T.StructField("n", T.LongType()),
        T.StructField("windowStart", T.LongType()),
        T.StructField("windowEnd", T.LongType()),
    ]
)
COORDINATES_STRUCT = T.StructType(
    [
        T.StructField("topic", T.StringType()),
        T.StructField("partition", T.IntegerType()),
        T.StructField("offset", T.LongType()),
        T.StructField("timestamp", T.LongType()),
    ]
)
SEVERITY_HISTORY_TYPE = T.ArrayType(
    T.StructType(
        [
            T.StructField("at", T.LongType()),
            T.StructField("severity", T.StringType()),
            T.StructField("anomalyType", T.StringType()),
        ]
    )
)

_WIRE_TYPES: dict[str, T.DataType] = {
    "string": T.StringType(),
    "epoch_ms": T.LongType(),
    "long": T.LongType(),
    "double": T.DoubleType(),
    "baseline": BASELINE_STRUCT,
    "reading": READING_STRUCT,
    "coordinates": COORDINATES_STRUCT,
    "severity_history": SEVERITY_HISTORY_TYPE,
    "offsets": T.MapType(T.StringType(), T.LongType()),
}


@dataclass(frozen=True)
class Field:
    """One field of a message: its name on the wire, its column in our tables, type, unit and legal range."""

    name: str
    column: str
    type: str
    unit: str | None
    required: bool
    description: str
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    max_length: int | None = None
    values: tuple[str, ...] = ()

    @property
    def wire_type(self) -> T.DataType:
        """Spark type of the field inside the JSON document."""
        return _WIRE_TYPES[self.type]

    @property
    def column_type(self) -> T.DataType:
        """Spark type of the column: epoch milliseconds become a UTC timestamp."""
        return T.TimestampType() if self.type == "epoch_ms" else self.wire_type


@dataclass(frozen=True)
class Message:
    """One kind of Kafka record: topic, key, fields in wire order."""

    name: str
    topic: str
    description: str
    fields: tuple[Field, ...]

    @property
    def wire_schema(self) -> T.StructType:
        """Schema of the JSON document."""
        return T.StructType([T.StructField(f.name, f.wire_type) for f in self.fields])

    def field(self, column: str) -> Field:
        """The field stored in `column`; KeyError when there is none."""
        return next(f for f in self.fields if f.column == column)


def _document(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(conf_text(f"contracts/{name}.json"))
    return loaded


@cache
def message(name: str) -> Message:
    """The message of `conf/contracts/<name>.json`."""
    document = _document(name)
    fields = tuple(Field(**{**f, "values": tuple(f.get("values", ()))}) for f in document["fields"])
    return Message(document["name"], document["topic"], document["description"], fields)


@cache
def rejection_reasons() -> tuple[str, ...]:
    """Names of the rejection reasons, in the order in which the checks run."""
    return tuple(reason["name"] for reason in _document("rejections")["reasons"])


@cache
def rejection_rule_version() -> str:
    """Version of the rejection rules, sent with every dead letter."""
    return str(_document("rejections")["rule_version"])


@cache
def dead_letter_limit_bytes() -> int:
    """Largest value, in bytes, that a dead letter carries."""
    return int(_document("dead_letter")["max_value_bytes"])
