"""Anomaly events: one shape for every rule, its identity, and its form on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.anomalies.rules import RULE_VERSION
from pipelines.contract import message

_EVENT = message("anomaly_event")

_CLOCK_MS = "cast(reflect('java.lang.System', 'currentTimeMillis') AS bigint)"
"""The clock as each event is encoded. `current_timestamp` is the start of the batch, minutes old in real-time mode,
and a constant in the generated code: every batch would be compiled again, by Spark and by Java."""


def finding(
    anomaly_type: str,
    *,
    severity: Column,
    observed: Column,
    threshold: Column,
    deviation: Column,
    score: Column,
    text: Column,
) -> Column:
    """What a rule says of one row, as a struct that is null where `severity` is null (the rule is silent)."""
    said = F.struct(
        F.lit(anomaly_type).alias("anomaly_type"),
        severity.alias("severity"),
        score.cast("double").alias("score"),
        observed.cast("double").alias("observed"),
        deviation.cast("double").alias("deviation"),
        threshold.cast("double").alias("threshold_used"),
        text.alias("message"),
    )
    return F.when(severity.isNotNull(), said)


def graded(value: Column, limits: Iterable[float | Column], *, above: bool) -> Column:
    """Severity of a value against limits for WARNING, ERROR and CRITICAL; null when none is crossed."""
    warning, error, critical = (value > F.lit(limit) if above else value < F.lit(limit) for limit in limits)
    return F.when(critical, "CRITICAL").when(error, "ERROR").when(warning, "WARNING")


def identify(found: DataFrame, *, stage: str, place: Column | None = None) -> DataFrame:
    """Anomaly events of one finding a row.

    In: `finding` (struct of `finding()`), meter_id, feeder_id, event_ts, baseline, original_event, source, and, where
    records carry several readings, source_item.
    Out: the columns of the contract; detected_at is null until the event is sent. anomaly_id depends only on
    stage, rule, scope and event time, so the same anomaly always has the same id. `place` narrows the scope of a
    feeder (its phase; null for all).
    """
    said = F.col("finding")
    scope = F.when(F.col("meter_id").isNotNull(), F.concat(F.lit("meter|"), "meter_id")).otherwise(
        F.concat(F.lit("feeder|"), "feeder_id")
    )
    if place is not None:
        scope = F.concat_ws("/", scope, place)
    identity = F.concat_ws("|", F.lit(stage), said["anomaly_type"], scope, F.unix_millis("event_ts"))
    values = {
        "anomaly_id": F.sha2(identity, 256),
        "stage": F.lit(stage),
        "rule_version": F.lit(RULE_VERSION),
        "detected_at": F.lit(None).cast("timestamp"),
        "source_item": (F.col("source_item") if "source_item" in found.columns else F.lit(None)).cast("long"),
        **{name: F.col(name) for name in ("meter_id", "feeder_id", "event_ts", "baseline", "original_event", "source")},
    }
    return found.select([values.get(f.column, said[f.column]).alias(f.column) for f in _EVENT.fields])


def original_event() -> Column:
    """The SensorReading a reading row came from, as it stands on the wire."""
    return F.struct(
        F.col("meter_id").alias("meterId"),
        F.unix_millis("event_ts").alias("timestamp"),
        F.col("voltage_v").alias("voltage"),
        F.col("current_a").alias("current"),
        F.col("temperature_c").alias("temperature"),
        F.col("status").alias("status"),
    )


def source_coordinates() -> Column:
    """Kafka coordinates of a reading row."""
    return F.struct(
        F.col("kafka_topic").alias("topic"),
        F.col("kafka_partition").alias("partition"),
        F.col("kafka_offset").alias("offset"),
        F.unix_millis("kafka_ts").alias("timestamp"),
    )


def source_item(readings: DataFrame) -> Column:
    """Place of a reading row in its record; null where rows do not come from records."""
    return (F.col("kafka_item") if "kafka_item" in readings.columns else F.lit(None)).cast("long")


def encode_events(frame: DataFrame, contract_name: str) -> Column:
    """JSON document of a row whose columns are the contract's; timestamps become epoch milliseconds."""
    fields = message(contract_name).fields
    wire = [(F.unix_millis(f.column) if f.type == "epoch_ms" else frame[f.column]).alias(f.name) for f in fields]
    return F.to_json(F.struct(*wire), {"ignoreNullFields": "false"})


def encode_anomalies(anomalies: DataFrame, *further: Column) -> DataFrame:
    """Kafka records (key, value, headers) of anomaly events, and `further` columns of the events.

    Stamps detectedAt with the clock of the sending.
    """
    stamped = anomalies.withColumn("detected_at", F.timestamp_millis(F.expr(_CLOCK_MS)))
    header = F.struct(F.lit("anomaly-id").alias("key"), F.col("anomaly_id").cast("binary").alias("value"))
    return stamped.select(
        F.coalesce("meter_id", "feeder_id").alias("key"),
        encode_events(stamped, "anomaly_event").alias("value"),
        F.array(header).alias("headers"),
        *further,
    )
