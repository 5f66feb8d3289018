"""Readings to anomalies: decode, ask the bounds, and judge by the reading rules only what lies outside of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from pipelines.alerts.outbox import Event, record_of
from pipelines.broker.records import Record, send_records
from pipelines.errors import GridwatchError
from pipelines.readings.decode import Decoded, Decoder
from pipelines.readings.frames import readings_frame
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Settings
from pipelines.small_tables import scan_rows
from pipelines.tables import READINGS

_MISTAKES = (PolarsError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a mistake of ours in decoder or rules raises."""


class JudgingFailed(GridwatchError):
    """Decoder or rules cannot cope with a record; nothing is committed behind it."""


class Judging:
    """Judges records of the topic of readings. Rejected ones are the archive's and count for nothing here."""

    def __init__(self, settings: Settings) -> None:
        self._decoder = Decoder(settings.input)
        self._topic = settings.kafka.topics.readings

    def events(self, records: Sequence[Any], judge: ReadingJudge) -> list[Event]:
        """The anomalies of records (messages of confluent-kafka), in the order of the readings.

        Raises JudgingFailed, naming the records.
        """
        try:
            return self._events(records, judge)
        except _MISTAKES as error:
            first, last = records[0], records[-1]
            raise JudgingFailed(
                f"records from {first.partition()}:{first.offset()} to {last.partition()}:{last.offset()}"
                f" (partition:offset) cannot be judged: {type(error).__name__}: {str(error).splitlines()[:1]}"
            ) from error

    def _events(self, records: Sequence[Any], judge: ReadingJudge) -> list[Event]:
        decoded = self._decoder.decode([r.value() for r in records], [r.timestamp()[1] for r in records])
        odd = outside(decoded, judge)
        if not odd:
            return []
        frame = readings_frame(_only(decoded, odd))
        origins = [records[row] for row in frame["row"]]
        return judge.events(
            frame.drop("row").with_columns(
                pl.lit(self._topic).alias("kafka_topic"),
                pl.Series("kafka_partition", [origin.partition() for origin in origins], pl.Int32),
                pl.Series("kafka_offset", [origin.offset() for origin in origins], pl.Int64),
                pl.Series("kafka_ms", [origin.timestamp()[1] for origin in origins], pl.Int64),
            )
        )


def outside(decoded: Decoded, judge: ReadingJudge) -> list[int]:
    """Places in the lists of the readings of which a rule may say something."""
    inside = judge.bounds.inside
    measured = zip(
        decoded.meter_id, decoded.event_ms, decoded.voltage_v, decoded.current_a, decoded.temperature_c,
        decoded.status, strict=True,
    )  # fmt: skip
    return [place for place, reading in enumerate(measured) if not inside(*reading)]


def _only(decoded: Decoded, places: Sequence[int]) -> Decoded:
    names = (
        "rows", "items", "meter_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status", "extra",
    )  # fmt: skip
    picked = {name: [getattr(decoded, name)[place] for place in places] for name in names}
    return replace(decoded, **picked, rejections=[])


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
