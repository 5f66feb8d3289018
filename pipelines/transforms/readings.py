"""Accepted readings: where they belong in the grid, and what the archive decides about each, once and for all."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.settings import Detection, InputFields
from pipelines.tables import READINGS
from pipelines.transforms.decode import extra_fields
from pipelines.transforms.limits import class_limits, limits_of

TOPOLOGY = ("feeder_id", "phase", "nominal_voltage_v", "rated_current_a")
"""What `attach_meters` adds to a reading."""


def type_readings(checked: DataFrame) -> DataFrame:
    """Records as typed readings; the raw bytes stay only where the record is rejected.

    In: `name_rejections`. Out: reason, key, value (null unless rejected), the contract's columns,
    extra_text (the document, where it has unknown fields), the Kafka
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
        F.when(~rejected & F.col("shape")["has_extra"], F.col("text")).alias("extra_text"),
        "kafka_topic",
        "kafka_partition",
        "kafka_offset",
        "kafka_ts",
        F.lit(0).alias("kafka_item"),
        event_ts.cast("date").alias("event_date"),
    )


def accepted(typed: DataFrame) -> DataFrame:
    """The valid records."""
    return typed.where(F.col("reason").isNull())


def attach_meters(readings: DataFrame, meters: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds feeder_id, phase, nominal_voltage_v (V) and rated_current_a (A) of the meter, and the limits in which
    classes differ (`limits_of`): without classes none.

    A meter that `meters` does not know gets the default nominal voltage, no feeder, no phase, no rated current, and
    the common limits.
    """
    limits = class_limits(detection)
    own = (value.alias(name) for name, (value, _) in limits.items())
    known = F.broadcast(meters.select("meter_id", *TOPOLOGY, *own))
    default = F.lit(detection.nominal_voltage_v)
    joined = readings.join(known, "meter_id", "left")
    placed = joined.withColumn("nominal_voltage_v", F.coalesce("nominal_voltage_v", default))
    common = {name: F.coalesce(name, F.lit(value)) for name, (_, value) in limits.items()}
    return placed.withColumns(common) if common else placed


def flag_readings(readings: DataFrame, *, detection: Detection) -> DataFrame:
    """Adds is_plausible and is_in_band.

    Needs voltage_v, current_a, temperature_c, nominal_voltage_v. Only in-band readings enter a baseline.
    """
    limits = limits_of(detection)
    low, high = limits.undervoltage_pu[0], limits.overvoltage_pu[0]
    per_unit = F.col("voltage_v") / F.col("nominal_voltage_v")
    plausible = is_plausible(detection)
    return readings.withColumns(
        {"is_plausible": plausible, "is_in_band": plausible & per_unit.between(F.lit(low), F.lit(high))}
    )


def is_plausible(detection: Detection) -> Column:
    """Whether all measurements are physically possible: 0 <= v <= 1.5 Un (down to -zero_tolerance_pu
    Un: noise of a dead line), i >= 0, temperature in its range.

    A current or temperature that a file does not have says nothing against the reading.
    """
    limits = limits_of(detection)
    coldest, hottest = limits.plausible_temperature_c
    highest_v = F.col("nominal_voltage_v") * F.lit(limits.implausible_pu)
    return (
        F.col("voltage_v").between(lowest_plausible_v(detection), highest_v)
        & F.coalesce(F.col("current_a") >= 0, F.lit(True))
        & F.coalesce(F.col("temperature_c").between(F.lit(coldest), F.lit(hottest)), F.lit(True))
    )


def lowest_plausible_v(detection: Detection) -> Column:
    """The lowest voltage (V) that a dead line shows."""
    return F.col("nominal_voltage_v") * F.lit(-detection.zero_tolerance_pu)


def mark_late(readings: DataFrame, *, highest_before_ms: int | None, watermark_s: float) -> DataFrame:
    """Adds is_late: event time before (largest accepted event time of earlier batches - watermark).

    `highest_before_ms` (epoch ms) comes from `audit`; None for the first batch, in which nothing is late.
    """
    if highest_before_ms is None:
        return readings.withColumn("is_late", F.lit(False))
    horizon_ms = highest_before_ms - int(watermark_s * 1000)
    is_late = F.unix_millis("event_ts") < F.lit(horizon_ms)
    return readings.withColumn("is_late", F.coalesce(is_late, F.lit(False)))


def position() -> Column:
    """Coordinates of a record in its topic as one ordered number: partition x 2^48 + offset."""
    return F.shiftleft(F.col("kafka_partition").cast("long"), 48) + F.col("kafka_offset")


def reading_key() -> Column:
    """64-bit hash of what makes a reading the same reading: meter and event time."""
    return F.xxhash64("meter_id", F.unix_millis("event_ts"))


def mark_resent(readings: DataFrame, resent: DataFrame | None) -> DataFrame:
    """Adds is_resent: whether the reading's position is in `resent` (one column, position); None: none is."""
    if resent is None:
        return readings.withColumn("is_resent", F.lit(False))
    again = F.broadcast(resent.select("position", F.lit(True).alias("is_resent")))
    marked = readings.withColumn("position", position()).join(again, "position", "left")
    return marked.withColumn("is_resent", F.coalesce("is_resent", F.lit(False))).drop("position")


def as_readings_table(readings: DataFrame, *, fields: InputFields) -> DataFrame:
    """The columns of the table readings, in order."""
    with_extra = readings.withColumn("extra", extra_fields(F.col("extra_text"), fields))
    return with_extra.select(*READINGS.column_names)
