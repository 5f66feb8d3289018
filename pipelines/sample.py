"""A sample of the readings topic, judged by the archive's own plan: does a user's topic fit the contract?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F

from pipelines.describe import KAFKA_RECORD
from pipelines.errors import SettingsError
from pipelines.jobs import archive
from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.tables import METERS
from pipelines.topics import client_options

_READ_S = 20.0
_SHOWN_BYTES = 160


@dataclass(frozen=True)
class SampleReport:
    """What the plan says of the latest records of the readings topic."""

    records: int
    reasons: dict[str, int]
    examples: dict[str, str]
    """By reason, where the first such record is and how it begins."""
    meters: int
    delay_s: tuple[float, float, float] | None
    """Broker's time minus event time of what is accepted: least, median, largest."""

    @property
    def rejected(self) -> int:
        """Records that would be rejected."""
        return sum(self.reasons.values())

    @property
    def verdict(self) -> str:
        """One line."""
        accepted = self.records - self.rejected
        said = f"{accepted:,} of the latest {self.records:,} records are readings, of {self.meters:,} meters"
        if self.reasons:
            said += "; rejected: " + ", ".join(f"{name} {n}" for name, n in self.reasons.items())
            said += "; first " + "; first ".join(f"{name} {where}" for name, where in self.examples.items())
        if self.delay_s:
            said += "; broker's time minus event time {:.1f} s at least, {:.1f} s median, {:.1f} s at most".format(
                *self.delay_s
            )
        return said


def judge_sample(settings: Settings, count: int, say: Callable[[str], None]) -> SampleReport:
    """Read the latest records and run the plan of the archive over them. Starts and stops Spark; writes nothing.

    Raises SettingsError when the topic holds no record.
    """
    records = latest_records(settings, count)
    if not records:
        raise SettingsError(f"topic {settings.kafka.topics.readings} holds no record to look at")
    say(f"starting Spark to judge the latest {len(records):,} records")
    spark = build_session(settings, app_name="gridwatch-check")
    try:
        return judge_records(spark, settings, records)
    finally:
        spark.stop()


def judge_records(spark: SparkSession, settings: Settings, records: list[tuple[Any, ...]]) -> SampleReport:
    """The plan of the archive over records in the columns of Spark's Kafka source."""
    meters = spark.createDataFrame([], METERS.schema)
    typed = archive.build(spark.createDataFrame(records, KAFKA_RECORD), meters=meters, settings=settings)
    columns = ("reason", "meter_id", "event_ts", "kafka_partition", "kafka_offset", "kafka_ts")
    delay = (F.col("kafka_ts").cast("double") - F.col("event_ts").cast("double")).alias("delay_s")
    rows = typed.select(*columns, delay).collect()
    return report_of(rows, {(record[3], record[4]): record[1] for record in records})


def report_of(rows: list[Row], values: dict[tuple[int, int], Any]) -> SampleReport:
    """The report of judged rows; `values`: by partition and offset, the record's bytes."""
    ordered = sorted(rows, key=lambda row: (row["kafka_partition"], row["kafka_offset"]))
    examples: dict[str, str] = {}
    for row in (row for row in ordered if row["reason"]):
        value = bytes(values[row["kafka_partition"], row["kafka_offset"]] or b"")[:_SHOWN_BYTES]
        where = f"at {row['kafka_partition']}/{row['kafka_offset']}: {value.decode('utf-8', 'backslashreplace')!r}"
        examples.setdefault(row["reason"], where)
    delays = sorted(row["delay_s"] for row in ordered if row["reason"] is None)
    return SampleReport(
        records=len(ordered),
        reasons=dict(Counter(row["reason"] for row in ordered if row["reason"]).most_common()),
        examples=examples,
        meters=len({row["meter_id"] for row in ordered if row["reason"] is None}),
        delay_s=(delays[0], delays[len(delays) // 2], delays[-1]) if delays else None,
    )


def latest_records(settings: Settings, count: int) -> list[tuple[Any, ...]]:
    """About `count` of the newest records of the readings topic, in the columns of Spark's Kafka source."""
    topic = settings.kafka.topics.readings
    with closing(KafkaConsumer(**client_options(settings.kafka), enable_auto_commit=False)) as consumer:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        each = -(-count // max(1, len(partitions)))
        for partition in partitions:
            consumer.seek(partition, max(first[partition], end[partition] - each))
        found: list[tuple[Any, ...]] = []
        deadline = time.monotonic() + _READ_S
        while any(consumer.position(p) < end[p] for p in partitions) and time.monotonic() < deadline:
            for batch in consumer.poll(timeout_ms=500).values():
                found += [
                    _as_row(record) for record in batch if record.offset < end[TopicPartition(topic, record.partition)]
                ]
    return found


def _as_row(record: Any) -> tuple[Any, ...]:
    at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=record.timestamp)
    key, value = (None if part is None else bytearray(part) for part in (record.key, record.value))
    return key, value, record.topic, record.partition, record.offset, at, record.timestamp_type
