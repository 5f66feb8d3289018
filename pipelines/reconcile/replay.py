"""Rejected records sent to the topic again, each at most once, with all their bytes.

The dead-letter queue's copies are cut, so the table `rejected` is the source. What was replayed is in the table
`replays`, written before anything is sent: when the process dies in between, a record is not sent rather than twice.
"""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import write_deltalake
from kafka import KafkaProducer
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.reconcile.rejected import FRESH, Place, Rejected, Selection, knows_items, rejected_records
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, create_tables, open_table, scan_rows, table_is_there
from pipelines.tables import READINGS, REPLAYS
from pipelines.topics import client_options

ITEMS_HEADER = "gridwatch-replay-items"
"""Of a replayed record of which other items were accepted: the numbers of the bad ones, separated by commas."""

_REFUSED = (TopicAuthorizationFailedError, MessageSizeTooLargeError, RecordListTooLargeError)
"""With these answers a broker has stored nothing."""
_MOST_BYTES = 64 * 1024 * 1024
_SEND_LIMIT_S = 120.0

Say = Callable[[str], None]


def to_replay(settings: Settings, selection: Selection, *, limit: int, say: Say) -> list[Rejected]:
    """The fresh records of a selection, up to a limit. Raises DataRefused for records of another topic."""
    chosen: list[Rejected] = []
    for record in rejected_records(settings, selection):
        if len(chosen) >= limit:
            break
        if record.state == FRESH and record.key is None and record.value is None:
            say(f"partition {record.kafka_partition}, offset {record.kafka_offset} has no key and no value: left out")
        elif record.state == FRESH:
            chosen.append(record)
    topic = settings.kafka.topics.readings
    if other := {record.kafka_topic for record in chosen} - {topic}:
        raise DataRefused(
            f"records of topic {min(other)} cannot be sent to {topic}; set kafka.topics.readings to the topic they came"
            " from"
        )
    accepted = _partly_accepted(settings, chosen)
    return [replace(record, is_partly_accepted=record.place in accepted) for record in chosen]


def _partly_accepted(settings: Settings, records: Sequence[Rejected]) -> set[Place]:
    """The records of which readings are stored. Files without their offsets are not read."""
    if not records or not table_is_there(settings, READINGS) or not knows_items(settings, READINGS):
        return set()
    wanted: dict[int, list[int]] = defaultdict(list)
    for record in records:
        wanted[record.kafka_partition].append(record.kafka_offset)
    found: set[Place] = set()
    for partition, offsets in wanted.items():
        where = f"kafka_partition = {partition} AND kafka_offset BETWEEN {min(offsets)} AND {max(offsets)}"
        names = ["kafka_topic", "kafka_offset"]
        for piece in scan_rows(settings, READINGS, columns=names, where=where):
            stored = piece.filter(pc.is_in(piece["kafka_offset"], pa.array(offsets, pa.int64())))
            found |= {(row["kafka_topic"], partition, row["kafka_offset"]) for row in stored.to_pylist()}
    return found


def replay(settings: Settings, records: Sequence[Rejected]) -> int:
    """Send records to the partition they came from, as they came; returns how many Kafka has acknowledged.

    The caller holds the lock of replays. Raises InfrastructureUnavailable when Kafka did not take all: what was surely
    not sent is fresh again; what else is not acknowledged stays unsure, and is never sent again.
    """
    create_tables(settings, [REPLAYS])
    try:
        producer: Any = KafkaProducer(**client_options(settings.kafka), acks="all", max_request_size=_MOST_BYTES)
    except KafkaError as error:
        raise InfrastructureUnavailable(f"{settings.kafka.bootstrap_servers}: {error}; nothing was sent") from None
    replay_id, sending = uuid.uuid4().hex, _Sending()
    try:
        _note(settings, replay_id, "claimed", records)
        sending.send(producer, replay_id, records)
    finally:
        producer.close(timeout=5)
        sent, released = sending.sent(records), sending.released(records)
        _note(settings, replay_id, "sent", sent)
        _note(settings, replay_id, "released", released)
    if len(sent) < len(records):
        why = f" ({type(sending.refusal).__name__})" if sending.refusal else ""
        raise InfrastructureUnavailable(
            f"{settings.kafka.bootstrap_servers} acknowledged {len(sent)} of {len(records)} records{why};"
            f" {len(released)} were not sent and stay fresh, {len(records) - len(sent) - len(released)} are unsure,"
            " `gridwatch dlq show --state unsure` lists them"
        )
    return len(sent)


@dataclass
class _Sending:
    """What became of records that were handed to a producer; final once that is closed."""

    futures: dict[Place, Any] = field(default_factory=dict)
    """Of each record that may have been sent; None while the producer takes it."""
    refusal: Exception | None = None
    """Why the last record that was surely not sent was not."""

    def send(self, producer: Any, replay_id: str, records: Sequence[Rejected]) -> None:
        """Hand the records over and wait for Kafka's answers, some time."""
        for record in records:
            headers = _headers(replay_id, record)
            self.futures[record.place] = None
            try:
                self.futures[record.place] = producer.send(
                    record.kafka_topic, record.value, record.key, headers, partition=record.kafka_partition
                )
            except (KafkaError, ValueError) as error:  # larger than the producer takes, or no broker
                self.refusal = error
                del self.futures[record.place]
        with suppress(KafkaTimeoutError):
            producer.flush(timeout=_SEND_LIMIT_S)

    def sent(self, records: Sequence[Rejected]) -> list[Rejected]:
        """Those that Kafka has acknowledged."""
        return [r for r in records if (future := self.futures.get(r.place)) is not None and future.succeeded()]

    def released(self, records: Sequence[Rejected]) -> list[Rejected]:
        """Those that were surely not sent."""
        return [r for r in records if r.place not in self.futures or self._is_refused(self.futures[r.place])]

    def _is_refused(self, future: Any) -> bool:
        if future is None or not isinstance(future.exception, _REFUSED):
            return False
        self.refusal = future.exception
        return True


def _headers(replay_id: str, record: Rejected) -> list[tuple[str, bytes]]:
    place = ":".join(map(str, record.place))
    headers = [("gridwatch-replay", replay_id.encode()), ("gridwatch-replay-of", place.encode())]
    if record.is_partly_accepted or any(record.items):
        headers.append((ITEMS_HEADER, ",".join(map(str, record.items)).encode()))
    return headers


def _note(settings: Settings, replay_id: str, step: str, records: Sequence[Rejected]) -> None:
    now = datetime.now(UTC)
    rows = [
        {
            "replay_id": replay_id, "step": step, "at": now, "reason": record.reason, "digest": record.digest,
            "kafka_topic": record.kafka_topic, "kafka_partition": record.kafka_partition,
            "kafka_offset": record.kafka_offset,
        }
        for record in records
    ]  # fmt: skip
    if rows:
        table = pa.Table.from_pylist(rows, schema=arrow_schema(REPLAYS))
        write_deltalake(open_table(settings, REPLAYS), table, mode="append")
