"""Accepted readings: where they belong in the grid, and what the archive decides about each, once and for all."""

from __future__ import annotations

from datetime import datetime

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection
from pipelines.tables import READINGS

TOPOLOGY = ("feeder_id", "nominal_voltage_v", "rated_current_a")
"""What `attach_meters` adds to a reading."""


def type_readings(checked: DataFrame) -> DataFrame:
    """Records as typed readings; the raw bytes stay only where the record is rejected.

    In: `name_rejections`. Out: reason, key, value (null unless rejected), the contract's columns, extra, the Kafka
    coordinates, event_date. Nothing is dropped; a rejected record's measurements mean nothing.
    """
    rejected = F.col("reason").isNotNull()
    event_ts = F.when(~rejected, F.timestamp_millis("event_ms"))
    return checked.select(
        "reason",
        F.when(rejected, F.col("key")).alias("key"),
        F.when(rejected, F.col("value")).alias("value"),
        "meter_id",
        event_ts.alias("event_ts"),
        "voltage_v",
        "current_a",
        "temperature_c",
        "status",
        F.col("shape")["extra"].alias("extra"),
        "kafka_topic",
        "kafka_partition",
        "kafka_offset",
        "kafka_ts",
        event_ts.cast("date").alias("event_date"),
    )


def accepted(typed: DataFrame) -> DataFrame:
    """The valid records."""
    return typed.where(F.col("reason").isNull())


def attach_meters(readings: DataFrame, meters: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds feeder_id, nominal_voltage_v (V) and rated_current_a (A) of the meter.

    A meter that `meters` does not know gets the default nominal voltage, no feeder and no rated current.
    """
    known = F.broadcast(meters.select("meter_id", *TOPOLOGY))
    default = F.lit(detection.nominal_voltage_v)
    joined = readings.join(known, "meter_id", "left")
    return joined.withColumn("nominal_voltage_v", F.coalesce("nominal_voltage_v", default))


def flag_readings(readings: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds is_plausible and is_in_band.

    Needs voltage_v, current_a, temperature_c, nominal_voltage_v. Only in-band readings enter a baseline.
    """
    low, high = detection.undervoltage_pu[0], detection.overvoltage_pu[0]
    per_unit = F.col("voltage_v") / F.col("nominal_voltage_v")
    plausible = is_plausible(detection)
    return readings.withColumns(
        {"is_plausible": plausible, "is_in_band": plausible & per_unit.between(F.lit(low), F.lit(high))}
    )


def is_plausible(detection: Detection) -> Column:
    """Whether all measurements are physically possible: 0 <= v <= 1.5 Un, i >= 0, temperature in its range."""
    coldest, hottest = detection.plausible_temperature_c
    highest_v = F.col("nominal_voltage_v") * F.lit(detection.implausible_pu)
    return (
        F.col("voltage_v").between(F.lit(0.0), highest_v)
        & (F.col("current_a") >= 0)
        & F.col("temperature_c").between(F.lit(coldest), F.lit(hottest))
    )


def mark_late(readings: DataFrame, *, highest_before: datetime | None, watermark_s: float) -> DataFrame:
    """Adds is_late: event time before (largest accepted event time of earlier batches - watermark).

    `highest_before` (UTC) comes from `audit`; None for the first batch, in which nothing is late.
    """
    if highest_before is None:
        return readings.withColumn("is_late", F.lit(False))
    horizon_ms = int(highest_before.timestamp() * 1000) - int(watermark_s * 1000)
    return readings.withColumn("is_late", F.unix_millis("event_ts") < F.lit(horizon_ms))


def repeated_keys(readings: DataFrame, recent: DataFrame) -> DataFrame:
    """Meters and event times that occur twice in `readings` and `recent` (readings of earlier batches) together.

    Out: meter_id, event_ts, first_position: the position (see `position`) of the one that is not re-sent, -1 when
    an earlier batch has it.
    """
    new = readings.select("meter_id", "event_ts", position().alias("position"))
    old = recent.select("meter_id", "event_ts", F.lit(-1).cast("long").alias("position"))
    by_key = new.unionByName(old).groupBy("meter_id", "event_ts")
    counted = by_key.agg(F.count(F.lit(1)).alias("times"), F.min("position").alias("first_position"))
    return counted.where("times > 1").drop("times")


def position() -> Column:
    """Order of a record in its topic as one number: partition, then offset."""
    return F.shiftleft(F.col("kafka_partition").cast("long"), 48) + F.col("kafka_offset")


def mark_resent(readings: DataFrame, repeated: DataFrame | None) -> DataFrame:
    """Adds is_resent: an earlier batch, or a lower position of this one, has the same meter and event time.

    `repeated` comes from `repeated_keys` and is small; None when nothing is repeated.
    """
    if repeated is None:
        return readings.withColumn("is_resent", F.lit(False))
    marked = readings.join(F.broadcast(repeated), ["meter_id", "event_ts"], "left")
    again = F.coalesce(position() > F.col("first_position"), F.lit(False))
    return marked.withColumn("is_resent", again).drop("first_position")


def as_readings_table(readings: DataFrame) -> DataFrame:
    """The columns of the table readings, in order."""
    return readings.select(*READINGS.column_names)
