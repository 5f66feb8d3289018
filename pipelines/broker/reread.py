"""What Kafka holds in ranges of offsets, read again: committed records only, or all of them."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, TopicPartition

from pipelines.broker.records import librdkafka_options
from pipelines.errors import InfrastructureUnavailable
from pipelines.settings import Kafka

Range = tuple[int, int]
"""First and last offset, both included."""

_JUMP = 2000
"""Ranges that are closer to each other are read in one go; over a larger distance a seek is cheaper."""
_SILENCE_S = 60.0
_OPTIONS = {
    "group.id": "gridwatch-reread",  # the library asks for one; it is never joined and nothing is committed
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "queued.min.messages": 2 * _JUMP,
    "fetch.wait.max.ms": 50,
}
_HARMLESS = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT)
"""A right that a reader outside any group does not need; brokers that may answer again before the time is up."""


def records_in(kafka: Kafka, topic: str, partition: int, ranges: Sequence[Range], *, committed: bool) -> Iterator[int]:
    """The offsets within the ranges at which Kafka holds a record, in order. A transaction's marker is not a record.

    `ranges` are in order, do not overlap and lie where the topic begins or later. `committed`: records of aborted and
    of open transactions are left out. Raises InfrastructureUnavailable when Kafka does not answer, or has removed
    records meanwhile.
    """
    if not ranges:
        return
    level = "read_committed" if committed else "read_uncommitted"
    consumer = Consumer(librdkafka_options(kafka) | _OPTIONS | {"isolation.level": level})
    where = f"partition {partition} of topic {topic} at {kafka.bootstrap_servers}"
    starts = [first for first, _ in ranges]
    try:
        for offset in _offsets_at(consumer, topic, partition, ranges, where):
            number = bisect_right(starts, offset) - 1
            if number >= 0 and offset <= ranges[number][1]:
                yield offset
    finally:
        consumer.close()


def _offsets_at(consumer: Any, topic: str, partition: int, ranges: Sequence[Range], where: str) -> Iterator[int]:
    """Offsets of records from the first range to the first record behind the last one, with some between them."""
    consumer.assign([TopicPartition(topic, partition, ranges[0][0])])
    passed = ranges[0][0]
    """Every record before this offset has been read or jumped over."""
    for first, last in ranges:
        if first > passed + _JUMP:
            consumer.seek(TopicPartition(topic, partition, first))
        while passed <= last:
            offset = _next_offset(consumer, where)
            if offset is None:
                return
            passed = offset + 1
            yield offset


def _next_offset(consumer: Any, where: str) -> int | None:
    """Offset of the next record; None at the end of the partition."""
    deadline = time.monotonic() + _SILENCE_S
    while time.monotonic() < deadline:
        message = consumer.poll(1.0)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return int(message.offset())
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        if error.code() == KafkaError._AUTO_OFFSET_RESET:
            raise InfrastructureUnavailable(f"{where}: Kafka has removed records while they were read; try again")
        if error.code() not in _HARMLESS:
            raise InfrastructureUnavailable(f"{where}: {error.str()}")
    raise InfrastructureUnavailable(f"{where}: no record and no end within {_SILENCE_S:g} s")
