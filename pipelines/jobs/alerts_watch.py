"""Whether the alerts job still moves: its offsets say so only at a batch's end, heartbeats in between."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.jobs.alerts_slots import outgrown
from pipelines.jobs.context import Say
from pipelines.settings import Kafka, Settings
from pipelines.topics import client_options

COLD_S = 120.0
"""A first batch plans, compiles and waits for its slots; only then must heartbeats come in time."""
_LEAVE_S = 5.0
"""For the main thread to end by itself what has a problem."""


@dataclass
class Watchdog:
    """Decides from the broker's ends and the heartbeats seen. Times are seconds of any steady clock.

    `positions`: the offsets at which the job began to read; every `every`-th offset owes a heartbeat.
    """

    positions: Mapping[int, int]
    every: int
    limit_s: float
    started_s: float
    seen: dict[int, int] = field(default_factory=dict)
    _waiting_since: dict[int, float] = field(default_factory=dict)

    def reached(self, ends: Mapping[int, int]) -> dict[int, int]:
        """Next offset of each partition, by the heartbeats: the job may be up to `every` further."""
        return {partition: self._reached(partition) for partition in {*self.positions, *ends}}

    def take(self, partition: int, offset: int, now_s: float) -> None:
        """A heartbeat has come."""
        self.seen[partition] = max(offset, self.seen.get(partition, -1))
        if partition in self._waiting_since:
            self._waiting_since[partition] = now_s

    def look(self, ends: Mapping[int, int], now_s: float) -> dict[int, float]:
        """Partitions whose heartbeat is overdue, and for how long (s)."""
        overdue = {}
        for partition, end in ends.items():
            if not self._owes(partition, end):
                self._waiting_since.pop(partition, None)
                continue
            since = self._waiting_since.setdefault(partition, now_s)
            if now_s - since > (self.limit_s if self.seen else max(self.limit_s, self._cold_until() - since)):
                overdue[partition] = now_s - since
        return overdue

    def forget_waiting(self) -> None:
        """The broker did not answer: it is not the job that is late."""
        self._waiting_since.clear()

    def lag(self, ends: Mapping[int, int]) -> int:
        """Records behind the last heartbeats: at most `every` too many a partition."""
        return sum(max(0, end - self._reached(partition)) for partition, end in ends.items())

    def _owes(self, partition: int, end: int) -> bool:
        last_due = (end - 1) // self.every * self.every
        return last_due >= self._reached(partition)

    def _reached(self, partition: int) -> int:
        return max(self.seen.get(partition, -1) + 1, self.positions.get(partition, 0))

    def _cold_until(self) -> float:
        return self.started_s + COLD_S


class Watch:
    """Follows one query from a thread of its own, which needs no answer of Spark, and ends what is stuck.

    `problem` is set when the job must end; `end_jvm` has then been called, so that nobody waits for a hanging JVM.
    Where that does not help (under spark-submit it is our parent), this process ends with the problem's exit code.
    `has_grown` is set when the topic has more partitions than the query began with, and a slot for each: the query has
    to begin anew, since a batch in real-time mode reads the partitions that there were when it was planned.
    """

    def __init__(
        self, settings: Settings, positions: Mapping[int, int], *, slots: int, end_jvm: Callable[[], None], say: Say
    ) -> None:
        self._settings = settings
        self._say = say
        self._slots = slots
        self._partitions = len(positions)
        self._end_jvm = end_jvm
        alerts = settings.alerts
        self._dog = Watchdog(positions, alerts.heartbeat_every, alerts.stuck_after, time.monotonic())
        self._ends: Mapping[int, int] = {}
        self._beaten_s = time.monotonic()
        self._stopped = threading.Event()
        self._broker = _Broker(settings.kafka)
        self._thread = threading.Thread(target=self._follow, name="alerts-watch", daemon=True)
        self.problem: GridwatchError | None = None
        self.has_grown = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    @property
    def has_beaten(self) -> bool:
        """Whether a heartbeat has come."""
        return bool(self._dog.seen)

    @property
    def lag(self) -> int:
        """Records behind the last heartbeats: at most `alerts.heartbeat_every` too many a partition."""
        return self._dog.lag(self._ends)

    @property
    def heartbeat_age_s(self) -> float:
        """Since the last heartbeat came, or since the watch began."""
        return time.monotonic() - self._beaten_s

    def reached(self) -> dict[int, int]:
        """Next offset of each partition, as far as the heartbeats say."""
        return self._dog.reached(self._ends)

    def _follow(self) -> None:
        while not self._stopped.wait(0.5):
            try:
                beats = self._broker.heartbeats()
                self._ends = self._broker.ends()
            except KafkaError:
                self._dog.forget_waiting()
                continue
            now = time.monotonic()
            for partition, offset in beats:
                self._dog.take(partition, offset, now)
                self._beaten_s = now
            grown = len(self._ends) > self._partitions
            self.problem = self._outgrown() if grown else self._stuck(now)
            if self.problem:
                self._end(self.problem)
            self.has_grown = grown and not self.problem
            if self.problem or grown:
                break
        self._broker.close()

    def _end(self, problem: GridwatchError) -> None:
        self._end_jvm()
        if not self._stopped.wait(_LEAVE_S):
            self._say(f"gridwatch: {problem}")
            os._exit(problem.exit_code)

    def _stuck(self, now: float) -> GridwatchError | None:
        overdue = self._dog.look(self._ends, now)
        if not overdue:
            return None
        return InfrastructureUnavailable(
            f"the alerts job is stuck: partitions {sorted(overdue)} have not moved for {max(overdue.values()):.0f} s"
            f" with {self.lag} records waiting (alerts.stuck_after = {self._settings.alerts.stuck_after:g} s); start it"
            " again, it repeats what it had not committed"
        )

    def _outgrown(self) -> GridwatchError | None:
        return outgrown(self._slots, len(self._ends), self._settings.kafka.topics.readings)


def heartbeat_of(value: bytes | None) -> tuple[int, int] | None:
    """Partition and offset of a heartbeat; None for a record that is none: anybody may write to a topic.

    >>> heartbeat_of(b'{"partition": 1, "offset": 200}'), heartbeat_of(b"\\xff"), heartbeat_of(b"[]")
    ((1, 200), None, None)
    """
    try:
        beat = json.loads(value or b"")
        return int(beat["partition"]), int(beat["offset"])
    except (ValueError, TypeError, KeyError):
        return None


class _Broker:
    """The heartbeats sent since it was opened, and the ends of the topic of readings."""

    def __init__(self, kafka: Kafka) -> None:
        self._topic = kafka.topics.readings
        self._consumer: Any = KafkaConsumer(
            **client_options(kafka), enable_auto_commit=False, metadata_max_age_ms=10_000
        )
        part = TopicPartition(kafka.topics.heartbeats, 0)
        self._consumer.assign([part])
        self._consumer.seek_to_end(part)
        self._consumer.position(part)  # seeks now: whatever is sent from here on is seen

    def heartbeats(self) -> list[tuple[int, int]]:
        """(partition, offset) of those that came since the last call."""
        batches = self._consumer.poll(timeout_ms=200, max_records=10_000)
        said = (heartbeat_of(record.value) for records in batches.values() for record in records)
        return [beat for beat in said if beat]

    def ends(self) -> dict[int, int]:
        """Next offset of each partition."""
        numbers = self._consumer.partitions_for_topic(self._topic) or ()
        found = self._consumer.end_offsets([TopicPartition(self._topic, number) for number in numbers])
        return {part.partition: end for part, end in found.items()}

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
