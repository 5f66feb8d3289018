"""Kafka to the board: one thread that reads the topics of findings, from where a page needs them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipelines.console.board import Record
from pipelines.settings import Settings
from pipelines.topics import client_options

Deliver = Callable[[list[Record]], None]
Status = Callable[[str, str | None], None]
"""Called with a part's name and what is wrong with it, None when all is well."""

KAFKA_TROUBLE = (KafkaError, OSError, ValueError, AssertionError, RuntimeError)
"""What the client raises when no broker answers, or one that answered has gone."""

_ALL = None
_BACK = {"incidents": _ALL, "actions": _ALL, "anomalies": 100, "ticks": 1}
"""How many records of each partition are read again at a start; of compacted topics all."""
_POLL_MS = 200
_LONGEST_PAUSE_S = 8.0


class Feed(threading.Thread):
    """Reads until it is stopped. A broker that goes away is waited for; no record is left out or read twice."""

    def __init__(self, settings: Settings, deliver: Deliver, status: Status) -> None:
        super().__init__(name="console-feed", daemon=True)
        self._settings, self._deliver, self._status = settings, deliver, status
        self._ended = threading.Event()
        self._next: dict[TopicPartition, int] = {}

    def stop(self) -> None:
        """End soon; waits for it."""
        self._ended.set()
        self.join(5)

    def run(self) -> None:
        """Read, and begin again after a failure with a growing pause."""
        pause = 0.5
        while not self._ended.is_set():
            try:
                self._read()
            except KAFKA_TROUBLE as error:
                self._status("feed", f"{type(error).__name__} at {self._settings.kafka.bootstrap_servers}")
                self._ended.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _read(self) -> None:
        # The broker answers as soon as it has a record: the wait below only says how often it may be idle.
        options = client_options(self._settings.kafka) | {"bootstrap_timeout_ms": 3000}
        consumer = KafkaConsumer(
            **options, enable_auto_commit=False, fetch_max_wait_ms=_POLL_MS, fetch_min_bytes=1, max_poll_records=2000
        )
        try:
            kinds = self._take_up(consumer)
            while not self._ended.is_set():
                polled = consumer.poll(timeout_ms=_POLL_MS)
                if polled:
                    records = [self._record(kinds[at], at, record) for at, found in polled.items() for record in found]
                    # Findings of several partitions as they were appended; of other topics the order of offsets counts.
                    self._deliver(sorted(records, key=lambda r: r.at_ms if r.kind == "anomalies" else 0))
        finally:
            consumer.close()

    def _take_up(self, consumer: Any) -> dict[TopicPartition, str]:
        """Assign every partition and seek to where this feed left off, or to where a page begins."""
        names = self._settings.kafka.topics.model_dump()
        kinds = {
            TopicPartition(names[kind], partition): kind
            for kind in _BACK
            for partition in consumer.partitions_for_topic(names[kind]) or ()
        }
        missing = [names[kind] for kind in _BACK if kind not in kinds.values()]
        if not kinds:
            raise OSError("no topic")
        consumer.assign(list(kinds))
        first, end = consumer.beginning_offsets(list(kinds)), consumer.end_offsets(list(kinds))
        for at, kind in kinds.items():
            back = _BACK[kind]
            begin = first[at] if back is _ALL else max(first[at], end[at] - back)
            consumer.seek(at, max(self._next.get(at, begin), first[at]))
        self._status("feed", f"topic {missing[0]} does not exist: `gridwatch topics create`" if missing else None)
        return kinds

    def _record(self, kind: str, at: TopicPartition, record: Any) -> Record:
        self._next[at] = record.offset + 1
        key = record.key.decode(errors="replace") if record.key is not None else None
        return Record(kind, key, record.value, record.timestamp, record.partition, record.offset)
