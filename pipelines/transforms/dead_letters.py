"""Rejected records: their row in the lake, with all bytes, and their dead letter, with the value cut."""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.contract import dead_letter_limit_bytes, rejection_rule_version
from pipelines.tables import REJECTED


def as_rejected_table(checked: DataFrame) -> DataFrame:
    """The invalid records in the columns of the table rejected."""
    invalid = checked.where(F.col("reason").isNotNull())
    return invalid.withColumns(
        {"rule_version": F.lit(rejection_rule_version()), "kafka_date": F.col("kafka_ts").cast("date")}
    ).select(*REJECTED.column_names)


def as_dead_letters(rejected: DataFrame) -> DataFrame:
    """Kafka records (key, value, headers): the value cut at the contract's limit, the headers say where it was."""
    headers = {
        "reason": F.col("reason"),
        "rule-version": F.col("rule_version"),
        "origin-topic": F.col("kafka_topic"),
        "origin-partition": F.col("kafka_partition"),
        "origin-offset": F.col("kafka_offset"),
        "origin-timestamp": F.unix_millis("kafka_ts"),
        "length": F.coalesce(F.length("value"), F.lit(-1)),
        "sha256": F.coalesce(F.sha2(F.col("value"), 256), F.lit("")),
    }
    return rejected.select(
        "key",
        F.substring("value", 1, dead_letter_limit_bytes()).alias("value"),
        F.array(*[_header(name, value) for name, value in headers.items()]).alias("headers"),
    )


def _header(name: str, value: Column) -> Column:
    return F.struct(F.lit(name).alias("key"), value.cast("string").cast("binary").alias("value"))
