"""How the pipeline does, once a second: what Kafka holds, what the archive has, by partition."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from pipelines.alerts.group import Group
from pipelines.console.feed import KAFKA_TROUBLE
from pipelines.errors import InfrastructureUnavailable
from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS, highest_value, read_rows
from pipelines.tables import AUDIT, METER_WINDOWS
from pipelines.topics import client_options

_EVERY_S = 1.0
_LAKE_EVERY_S = 3.0
_RATE_OVER = 5
_COUNTED = ("records_in", "accepted", "rejected", "late", "resent")


@dataclass
class AuditTotals:
    """Sums over the table audit; each look reads only the batches that came since."""

    counts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    archived_end: dict[int, int] = field(default_factory=dict)
    """By partition of the readings, the offset after the last archived one."""
    last_batches: dict[str, int] = field(default_factory=dict)
    """The newest batch of each generation: a later one counts from 0 again."""

    @property
    def last_batch(self) -> int:
        """The newest batch of the generation that wrote last; -1 before the first one."""
        return next(reversed(self.last_batches.values()), -1)

    @property
    def unread(self) -> str | None:
        """Predicate of the rows that came since; None for all of them.

        >>> AuditTotals(last_batches={"a": 7, "b": 0}).unread
        "generation NOT IN ('a', 'b') OR (generation = 'a' AND batch_id > 7) OR (generation = 'b' AND batch_id > 0)"
        """
        if not self.last_batches:
            return None
        known = ", ".join(f"'{name}'" for name in self.last_batches)
        later = [f"(generation = '{name}' AND batch_id > {last})" for name, last in self.last_batches.items()]
        return " OR ".join([f"generation NOT IN ({known})", *later])

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Take rows of the table audit, newer than those before."""
        for row in sorted(rows, key=lambda row: row["last_offset"]):
            self.counts.update({name: row[name] or 0 for name in _COUNTED})
            self.reasons.update(dict(row["rejected_by_reason"] or {}))
            partition, end = row["kafka_partition"], row["last_offset"] + 1
            self.archived_end[partition] = max(self.archived_end.get(partition, 0), end)
            last = self.last_batches.pop(row["generation"], -1)  # the newest generation comes last
            self.last_batches[row["generation"]] = max(last, row["batch_id"])


class Rate:
    """Records a second, over the last few looks."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=_RATE_OVER + 1)

    def of(self, at_s: float, total: int) -> float | None:
        """The rate with this look; None at the first one."""
        self._seen.append((at_s, total))
        (first_s, first), (last_s, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else None


class Gauges(threading.Thread):
    """Looks once a second until it is stopped, and hands the figures on."""

    def __init__(self, settings: Settings, deliver: Callable[[dict[str, Any]], None]) -> None:
        super().__init__(name="console-gauges", daemon=True)
        self._settings, self._deliver = settings, deliver
        self._ended = threading.Event()
        self._audit, self._rate = AuditTotals(), Rate()
        self._window_end: int | None = None
        self._lake_at, self._lake_said = 0.0, "not looked at yet"
        self._lake_ok = False
        self._group: Group | None = None

    def stop(self) -> None:
        """End soon; waits for it."""
        self._ended.set()
        self.join(5)

    def run(self) -> None:
        """Look, also while Kafka or the lake are away: then the figures say so."""
        while not self._ended.is_set():
            try:
                consumer = KafkaConsumer(**client_options(self._settings.kafka), bootstrap_timeout_ms=3000)
            except KAFKA_TROUBLE as error:
                self._hand_on({}, type(error).__name__)
                self._ended.wait(_EVERY_S)
                continue
            try:
                self._look(consumer)
            except KAFKA_TROUBLE as error:
                self._hand_on({}, type(error).__name__)
            finally:
                consumer.close()
                if self._group is not None:
                    self._group.close()

    def _look(self, consumer: Any) -> None:
        topic = self._settings.kafka.topics.readings
        while not self._ended.is_set():
            partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
            if partitions:
                ends = consumer.end_offsets(partitions, timeout_ms=3000)
                self._hand_on({at.partition: end for at, end in ends.items()}, None)
            else:
                self._hand_on({}, f"topic {topic} does not exist")
            self._ended.wait(_EVERY_S)

    def _hand_on(self, ends: dict[int, int], problem: str | None) -> None:
        now = time.monotonic()
        if now - self._lake_at >= _LAKE_EVERY_S:
            self._lake_at = now
            self._look_at_lake()
        archived = self._audit.archived_end
        sent = sum(ends.values())
        self._deliver(
            {
                "kafka": {"ok": problem is None, "said": problem},
                "lake": {"ok": self._lake_ok, "said": self._lake_said},
                "rate": self._rate.of(now, sent) if ends else None,
                "sent": sent if ends else None,
                "ends": ends,
                "archivedEnds": archived,
                "judgedEnds": self._judged_ends() if ends else {},
                "archiveLag": sum(max(end - archived.get(p, 0), 0) for p, end in ends.items()) if ends else None,
                "counts": dict(self._audit.counts),
                "reasons": dict(self._audit.reasons),
                "batch": self._audit.last_batch,
                "tableWindowEnd": self._window_end,
            }
        )

    def _judged_ends(self) -> dict[int, int]:
        """What the group of the alerts has committed; nothing when nobody can say."""
        try:
            self._group = self._group or Group(self._settings)
            return self._group.committed()
        except (InfrastructureUnavailable, *STORE_ERRORS):
            return {}

    def _look_at_lake(self) -> None:
        try:
            names = [*_COUNTED, "generation", "batch_id", "kafka_partition", "last_offset", "rejected_by_reason"]
            self._audit.add(read_rows(self._settings, AUDIT, columns=names, where=self._audit.unread).to_pylist())
            highest = highest_value(self._settings, METER_WINDOWS, "window_end")
            self._window_end = int(highest.timestamp() * 1000) if highest else None
            self._lake_ok, self._lake_said = True, self._settings.lake.root
        except STORE_ERRORS as error:
            self._lake_ok, self._lake_said = False, str(error).strip().splitlines()[0][:200]
