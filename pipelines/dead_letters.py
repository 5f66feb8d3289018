"""Rejected records looked at and sent to the topic again, each at most once, with all their bytes.

The dead-letter queue's copies are cut, so the table `rejected` is the source. What was replayed stands in the table
`replays`, written before anything is sent: when the process dies in between, a record is not sent rather than twice.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake
from kafka import KafkaProducer
from kafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    RecordListTooLargeError,
    TopicAuthorizationFailedError,
)

from pipelines.errors import DataRefused, InfrastructureUnavailable, SettingsError
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, create_tables, moment, open_table, read_rows, scan_rows, table_is_there
from pipelines.tables import REJECTED, REPLAYS
from pipelines.topics import client_options

FRESH, REPLAYED, UNSURE, PARKED = "fresh", "replayed", "unsure", "parked"
STATES = (FRESH, REPLAYED, UNSURE, PARKED)
"""Not replayed yet; replayed; claimed, and the process died before it knew; the same bytes were replayed before."""

_REFUSED = (TopicAuthorizationFailedError, MessageSizeTooLargeError, RecordListTooLargeError)
"""With these answers a broker has stored nothing."""
_MOST_BYTES = 64 * 1024 * 1024
_SEND_LIMIT_S = 120.0

Say = Callable[[str], None]
Place = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass(frozen=True)
class Selection:
    """Which rejected records; all when nothing is said."""

    reasons: Sequence[str] = ()
    since: datetime | None = None
    """Broker time, inclusive."""
    until: datetime | None = None
    """Broker time, exclusive."""
    partition: int | None = None
    offset: int | None = None

    @property
    def where(self) -> str | None:
        """SQL predicate over the table rejected; reasons are names of the contract."""
        parts = []
        if self.reasons:
            names = ", ".join(f"'{reason}'" for reason in self.reasons)
            parts.append(f"reason IN ({names})")
        if self.since:
            parts.append(f"kafka_date >= '{self.since.astimezone(UTC).date()}' AND kafka_ts >= {moment(self.since)}")
        if self.until:
            parts.append(f"kafka_date <= '{self.until.astimezone(UTC).date()}' AND kafka_ts < {moment(self.until)}")
        if self.partition is not None:
            parts.append(f"kafka_partition = {self.partition}")
        if self.offset is not None:
            parts.append(f"kafka_offset = {self.offset}")
        return " AND ".join(parts) or None


@dataclass(frozen=True)
class Rejected:
    """One rejected record with its state."""

    reason: str
    rule_version: str
    key: bytes | None
    value: bytes | None
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    kafka_ts: datetime
    digest: str
    state: str

    @property
    def place(self) -> Place:
        """Its coordinates."""
        return self.kafka_topic, self.kafka_partition, self.kafka_offset


@dataclass
class Done:
    """What was replayed before."""

    steps: dict[Place, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, settings: Settings) -> Done:
        """From the table replays."""
        done = cls()
        if not table_is_there(settings, REPLAYS):
            return done
        rows = [((row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]), row)
                for row in read_rows(settings, REPLAYS).to_pylist()]  # fmt: skip
        released = {(place, row["replay_id"]) for place, row in rows if row["step"] == "released"}
        for place, row in rows:
            if (place, row["replay_id"]) in released:
                continue
            if done.steps.get(place) != "sent":
                done.steps[place] = row["step"]
            done.digests.add(row["digest"])
        return done

    def state_of(self, place: Place, digest: str) -> str:
        """One of STATES.

        >>> done = Done({("t", 0, 1): "sent", ("t", 0, 2): "claimed"}, {"a", "b"})
        >>> [done.state_of(("t", 0, n), digest) for n, digest in ((1, "a"), (2, "b"), (3, "a"), (4, "c"))]
        ['replayed', 'unsure', 'parked', 'fresh']
        """
        step = self.steps.get(place)
        if step is not None:
            return REPLAYED if step == "sent" else UNSURE
        return PARKED if digest in self.digests else FRESH


def digest_of(key: bytes | None, value: bytes | None) -> str:
    """SHA-256 over key and value, with their lengths; a null differs from nothing.

    >>> len({digest_of(b"a", b"b"), digest_of(b"ab", b""), digest_of(None, b"ab"), digest_of(b"ab", None)})
    4
    """
    text = hashlib.sha256()
    for part in (key, value):
        text.update(str(-1 if part is None else len(part)).encode() + b":")
        text.update(part or b"")
    return text.hexdigest()


def rejected_records(settings: Settings, selection: Selection) -> Iterator[Rejected]:
    """The selected records in the order of the table's files, a few thousand in memory at a time.

    Records with the same bytes: all but the first of them count as parked. Raises SettingsError without the table.
    """
    if not table_is_there(settings, REJECTED):
        raise SettingsError(f"lake.root = {settings.lake.root} has no table rejected: start `gridwatch run` once")
    done, seen = Done.read(settings), set[str]()
    names = [name for name in REJECTED.column_names if name != "kafka_date"]
    for piece in scan_rows(settings, REJECTED, columns=names, where=selection.where):
        for row in piece.to_pylist():
            digest = digest_of(row["key"], row["value"])
            place = row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]
            state = done.state_of(place, digest)
            if state == FRESH and digest in seen:
                state = PARKED
            seen.add(digest)
            yield Rejected(**row, digest=digest, state=state)


def count_by_reason(settings: Settings, selection: Selection) -> dict[str, dict[str, int]]:
    """Records by reason and state, and under `bytes` the size of their values."""
    counts: dict[str, dict[str, int]] = {}
    for record in rejected_records(settings, selection):
        row = counts.setdefault(record.reason, dict.fromkeys((*STATES, "bytes"), 0))
        row[record.state] += 1
        row["bytes"] += len(record.value or b"")
    return dict(sorted(counts.items()))


def to_replay(settings: Settings, selection: Selection, *, limit: int, say: Say) -> list[Rejected]:
    """The fresh records of a selection, at most so many. Raises DataRefused for records of another topic."""
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
    return chosen


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
            place = ":".join(map(str, record.place))
            headers = [("gridwatch-replay", replay_id.encode()), ("gridwatch-replay-of", place.encode())]
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
