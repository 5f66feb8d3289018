"""What is wrong with a record: one named reason, the first that fits, in the order of the contract."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.contract import message, rejection_reasons
from pipelines.transforms.decode import trimmed_text

_MEASUREMENTS = ("voltage_v", "current_a", "temperature_c")

_OF_PLAIN = ("out_of_range", "future_timestamp", "too_old")
"""What can still be wrong with a plain document."""


def name_rejections(decoded: DataFrame, *, max_skew_s: float, max_age_s: float) -> DataFrame:
    """Adds `reason`: null for a valid record, else the name of the first check that fails.

    In: the frame of `decode_readings`. The clock is the broker's (`kafka_ts`), so a replay decides the same.
    Stateless; every record gets exactly one outcome.
    """
    checks = _checks(max_skew_s=max_skew_s, max_age_s=max_age_s)
    reasons = {name: F.when(checks[name], F.lit(name)) for name in rejection_reasons()}
    of_plain = F.coalesce(*(reason for name, reason in reasons.items() if name in _OF_PLAIN))
    return decoded.withColumn("reason", F.when(F.col("is_plain"), of_plain).otherwise(F.coalesce(*reasons.values())))


def _checks(*, max_skew_s: float, max_age_s: float) -> dict[str, Column]:
    """Condition of every reason; the keys are exactly those of `conf/contracts/rejections.json`."""
    text, shape = trimmed_text(), F.col("shape")
    is_json = F.coalesce(shape["is_json"], F.lit(True))
    broker_ms = F.unix_millis("kafka_ts")
    return {
        "empty_value": F.col("value").isNull() | (text == ""),
        "not_utf8": ~F.is_valid_utf8(F.col("text")),
        "trailing_content": text.startswith("{") & shape["is_json"] & ~shape["is_single"],
        "not_an_object": ~text.startswith("{") & text.rlike(r'^(\[|"|-?[0-9]|(true|false|null)$)'),
        "malformed_json": ~text.startswith("{") | (F.col("corrupt") & ~is_json) | _is_repeated_field(shape),
        "wrong_type": F.col("corrupt") | (is_json & ~F.coalesce(shape["texts_are_text"], F.lit(True))),
        "missing_meter_id": F.coalesce(F.col("meter_id"), F.lit("")) == "",
        "missing_timestamp": F.col("event_ms").isNull(),
        "missing_measurement": _any(F.col(name).isNull() for name in _MEASUREMENTS),
        "not_finite": _any(_is_not_finite(F.col(name)) for name in _MEASUREMENTS),
        "out_of_range": _any(_is_out_of_range(name) for name in ("event_ms", *_MEASUREMENTS)),
        "bad_meter_id": _breaks_text_limits("meter_id"),
        "bad_status": _breaks_text_limits("status"),
        "future_timestamp": F.col("event_ms") > broker_ms + F.lit(int(max_skew_s * 1000)),
        "too_old": F.col("event_ms") < broker_ms - F.lit(int(max_age_s * 1000)),
    }


def _any(conditions: Iterable[Column]) -> Column:
    return reduce(Column.__or__, conditions)


def _is_not_finite(value: Column) -> Column:
    return F.isnan(value) | (F.abs(value) == F.lit(float("inf")))


def _is_repeated_field(shape: Column) -> Column:
    """A document that `from_json` reads and a strict parser does not: a field stands twice.

    Bare NaN and Infinity also end here; they are not JSON, but `not_finite` names them better.
    """
    not_finite = _any(F.coalesce(_is_not_finite(F.col(name)), F.lit(False)) for name in _MEASUREMENTS)
    return ~F.col("corrupt") & ~F.coalesce(shape["is_json"], F.lit(True)) & ~not_finite


def _is_out_of_range(column: str) -> Column:
    field = message("sensor_reading").field("event_ts" if column == "event_ms" else column)
    return ~F.col(column).between(F.lit(field.minimum), F.lit(field.maximum))


def _breaks_text_limits(column: str) -> Column:
    field = message("sensor_reading").field(column)
    too_long = F.length(column) > F.lit(field.max_length)
    # `$` also matches before a line break at the end.
    return too_long | ~F.col(column).rlike(field.pattern + r"(?![\s\S])") if field.pattern else too_long
