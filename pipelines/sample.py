"""A sample of the readings topic, judged by the pipeline's own decoder: does a user's topic fit the contract?"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

from kafka import KafkaConsumer, TopicPartition

from pipelines.errors import SettingsError
from pipelines.readings.absent import absent_quantities, silent_rules
from pipelines.readings.decode import Decoder
from pipelines.settings import Input, Settings
from pipelines.topics import client_options

_READ_S = 20.0
_SHOWN_BYTES = 160


class Record(NamedTuple):
    """A record of the readings topic; `kafka_ms` is the broker's time, epoch milliseconds."""

    partition: int
    offset: int
    kafka_ms: int
    value: bytes | None


@dataclass(frozen=True)
class SampleReport:
    """What the decoder says of the latest records of the readings topic."""

    records: int
    readings: int
    reasons: dict[str, int]
    """By reason, the number of rejections."""
    examples: dict[str, str]
    """By reason, where the first such record is and how it begins."""
    meters: int
    delay_s: tuple[float, float, float] | None
    """Broker's time minus event time of what is accepted: least, median, largest."""
    absent: tuple[str, ...]
    """Optional quantities that no reading has."""

    @property
    def rejected(self) -> int:
        """Readings, or whole records, that would be rejected."""
        return sum(self.reasons.values())

    @property
    def verdict(self) -> str:
        """One line."""
        said = f"{self.readings:,} of the latest {self.records:,} records are readings, of {self.meters:,} meters"
        if self.reasons:
            said += "; rejected: " + ", ".join(f"{name} {n}" for name, n in self.reasons.items())
            said += "; first " + "; first ".join(f"{name} {where}" for name, where in self.examples.items())
        if self.delay_s:
            said += "; broker's time minus event time {:.1f} s at least, {:.1f} s median, {:.1f} s at most".format(
                *self.delay_s
            )
        return "; ".join([said, *silent_rules(self.absent)])


def judge_sample(settings: Settings, count: int) -> SampleReport:
    """Read the latest records and decode them as the archive does; writes nothing.

    Raises SettingsError when the topic holds no record.
    """
    records = latest_records(settings, count)
    if not records:
        raise SettingsError(f"topic {settings.kafka.topics.readings} holds no record to look at")
    return judge_records(records, settings.input)


def judge_records(records: Sequence[Record], source: Input) -> SampleReport:
    """The report of some records, in any order."""
    ordered = sorted(records, key=lambda record: (record.partition, record.offset))
    found = Decoder(source).decode([record.value for record in ordered], [record.kafka_ms for record in ordered])
    examples: dict[str, str] = {}
    for rejection in found.rejections:
        examples.setdefault(rejection.reason, _shown(ordered[rejection.row]))
    pairs = zip(found.rows, found.event_ms, strict=True)
    delays = sorted((ordered[row].kafka_ms - event_ms) / 1000 for row, event_ms in pairs)
    return SampleReport(
        records=len(ordered),
        readings=len(found.rows),
        reasons=dict(Counter(rejection.reason for rejection in found.rejections).most_common()),
        examples=examples,
        meters=len(set(found.meter_id)),
        delay_s=(delays[0], delays[len(delays) // 2], delays[-1]) if delays else None,
        absent=tuple(absent_quantities([found])),
    )


def _shown(record: Record) -> str:
    text = (record.value or b"")[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return f"at {record.partition}/{record.offset}: {text!r}"


def latest_records(settings: Settings, count: int) -> list[Record]:
    """About `count` of the newest records of the readings topic."""
    topic = settings.kafka.topics.readings
    with closing(KafkaConsumer(**client_options(settings.kafka), enable_auto_commit=False)) as consumer:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        each = -(-count // max(1, len(partitions)))
        for partition in partitions:
            consumer.seek(partition, max(first[partition], end[partition] - each))
        found: list[Record] = []
        deadline = time.monotonic() + _READ_S
        while any(consumer.position(p) < end[p] for p in partitions) and time.monotonic() < deadline:
            for partition, batch in consumer.poll(timeout_ms=500).items():
                found += [
                    Record(record.partition, record.offset, record.timestamp, record.value)
                    for record in batch
                    if record.offset < end[partition]
                ]
    return found
