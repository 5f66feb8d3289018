"""Readings that Kafka no longer has, judged from the table that has stored them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import polars as pl

from pipelines.alerts.outbox import Event, record_of
from pipelines.broker.records import Record, send_records
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Settings
from pipelines.small_tables import scan_rows
from pipelines.tables import READINGS

_COLUMNS = (
    "meter_id", "event_ts", "voltage_v", "current_a", "temperature_c", "status", "extra",
    "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ts", "kafka_item",
)  # fmt: skip


def publish_stored(
    settings: Settings, judge: ReadingJudge, partition: int, since: int, until: int, *, goes_on: Callable[[], bool]
) -> int:
    """Judge the stored readings of a partition from an offset up to, without, another, and send what is found.

    Returns how many anomalies were sent; done again it sends the same ids. Ends early once `goes_on` says no. Raises
    InfrastructureUnavailable when Kafka does not take them, and what the store's client raises.
    """
    sent = 0
    where = f"kafka_partition = {partition} AND kafka_offset >= {since} AND kafka_offset < {until}"
    for piece in scan_rows(settings, READINGS, columns=_COLUMNS, where=where):
        if not goes_on():
            break
        found = judge.events(as_readings(pl.DataFrame(piece), settings.kafka.topics.readings))
        sent += send_records(settings.kafka, settings.kafka.topics.anomalies, _records(found)) if found else 0
    return sent


def as_readings(stored: pl.DataFrame, topic: str) -> pl.DataFrame:
    """Rows of the table readings as ReadingJudge takes them; those of another topic are left out."""
    return (
        stored.filter(pl.col("kafka_topic") == topic)
        .with_columns(
            pl.col("event_ts").dt.epoch("ms").alias("event_ms"),
            pl.col("kafka_ts").dt.epoch("ms").alias("kafka_ms"),
            pl.col("kafka_item").fill_null(0),
        )
        .drop("event_ts", "kafka_ts")
    )


def _records(events: list[Event]) -> Iterator[Record]:
    for event in events:
        key, value, identity = record_of(event)
        headers: list[Any] = [("anomaly-id", identity)]
        yield key.encode(), value, headers
