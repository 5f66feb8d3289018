"""What the decoder must accept, by a validator of its own: Python's json and `conf/contracts`."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.settings import Settings
from pipelines.transforms.checks import name_rejections
from pipelines.transforms.decode import decode_readings, extra_fields
from pipelines.transforms.readings import type_readings
from tests.factories import NOON_MS, document, kafka_frame

CONTRACTS = Path(__file__).resolve().parents[2] / "conf" / "contracts"
FIELDS: list[dict[str, Any]] = json.loads((CONTRACTS / "sensor_reading.json").read_text(encoding="utf-8"))["fields"]
REASONS = [r["name"] for r in json.loads((CONTRACTS / "rejections.json").read_text(encoding="utf-8"))["reasons"]]


GOOD = document()
VALUES = {
    "meter_id": "m1",
    "voltage_v": 230.0,
    "current_a": 5.0,
    "temperature_c": 20.0,
    "status": "OK",
    "extra": None,
}
"""What GOOD decodes to."""


def decide(spark: SparkSession, values: list[bytes | None], settings: Settings) -> DataFrame:
    """One row a record, in order of `kafka_offset`: reason and typed columns, as the archive stores them."""
    return decide_records(kafka_frame(spark, values), settings)


def decide_records(records: DataFrame, settings: Settings) -> DataFrame:
    """The same for Kafka records in a frame."""
    source = settings.input
    checked = name_rejections(
        decode_readings(records, fields=source.fields),
        max_skew_s=source.max_skew,
        max_age_s=source.max_age,
    )
    return type_readings(checked).withColumn("extra", extra_fields(F.col("extra_text"), source.fields))


def is_valid(value: bytes | None, *, max_skew_s: float, max_age_s: float, broker_ms: int = NOON_MS) -> bool:
    """Whether a strict reader of the contract accepts the record."""
    try:
        document = _strict(value)
    except ValueError:
        return False
    if not isinstance(document, dict) or not all(_fits(f, document.get(f["name"])) for f in FIELDS):
        return False
    return broker_ms - max_age_s * 1000 <= document["timestamp"] <= broker_ms + max_skew_s * 1000


def _strict(value: bytes | None) -> Any:
    if value is None:
        raise ValueError("tombstone")
    document = json.loads(value.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse)
    json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no character
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("repeated field")
    return dict(pairs)


def _refuse(literal: str) -> Any:
    raise ValueError(f"{literal} is not JSON")


def _fits(field: dict[str, Any], value: Any) -> bool:
    if value is None:
        return not field["required"]
    match field["type"]:
        case "string":
            return isinstance(value, str) and _fits_text(field, value)
        case "epoch_ms":
            return type(value) is int and field["minimum"] <= value <= field["maximum"]
        case _:
            is_number = type(value) in (int, float) and abs(value) < 1e300
            return is_number and math.isfinite(value) and field["minimum"] <= value <= field["maximum"]


def _fits_text(field: dict[str, Any], value: str) -> bool:
    short_enough = len(value) <= field["max_length"]
    return short_enough and ("pattern" not in field or re.fullmatch(field["pattern"], value) is not None)
