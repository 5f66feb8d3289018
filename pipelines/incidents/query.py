"""Query incidents: from the topics of anomalies, window ends and operators' actions to the tables, and to incidents.

A plain consumer in a thread of the driver (docs/adr/0026): it acts when something is there, and rests when nothing is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event as Flag
from typing import Any

import numpy as np

from pipelines.broker.ends import committed_ends
from pipelines.incidents.actions_archive import Said
from pipelines.incidents.messages import anomaly_row, moment_of, tick_of
from pipelines.incidents.positions import QUERY, Position, commit_position, newest_update, read_position
from pipelines.incidents.reader import TopicsReader
from pipelines.incidents.ticks import Offsets, WaitingTicks
from pipelines.incidents.update import Row, Updated, is_news
from pipelines.incidents.writer import IncidentsWriter
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings
from pipelines.small_tables import highest_value
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, OPERATOR_ACTIONS

Say = Callable[[str], None]

MOST_RECORDS = 5_000
"""So many records make an update at once; no update takes twice as many."""
_GATHER_S = 0.1
"""What belongs together comes together: an update waits so long after the first news."""
_BETWEEN_S = 1.0
"""Under load an update begins this long after the one before: some commits a second at most."""
_PATIENCE_S = 10.0
"""What only goes on with open incidents waits this long at most."""
_IDLE_S = 0.5
_NOTE_EVERY_S = 5.0
_NOTE_CLOCK_EVERY_S = 60.0
"""Ticks that change nothing are not worth a commit each; a crash reads them again."""


@dataclass
class Gathered:
    """What was read and is not stored yet."""

    events: list[Row] = field(default_factory=list)
    """Rows of the table anomalies."""
    actions: list[Said] = field(default_factory=list)
    since: float = 0.0
    """Monotonic time of the first of it."""
    news_since: float | None = None
    """The same of the first that may change more than the end of an incident."""
    news_sent_s: float | None = None
    """Broker's time (Unix) of the first anomaly that is news."""

    def __len__(self) -> int:
        return len(self.events) + len(self.actions)

    def is_due(self, *, now: float, last_began: float) -> bool:
        """Whether it is time to store it.

        >>> Gathered(events=[{}], since=5.0).is_due(now=6.0, last_began=0.0)
        False
        >>> Gathered(events=[{}], since=5.0, news_since=5.5).is_due(now=6.0, last_began=0.0)
        True
        """
        if len(self) >= MOST_RECORDS:
            return True
        if self.news_since is not None:
            return now >= max(self.news_since + _GATHER_S, last_began + _BETWEEN_S)
        return bool(len(self)) and now >= self.since + _PATIENCE_S

    def left_s(self, *, now: float, last_began: float) -> float:
        """Seconds until it is due, if nothing else comes; `_IDLE_S` at most."""
        due = self.since + _PATIENCE_S if len(self) else now + _IDLE_S
        if self.news_since is not None:
            due = max(self.news_since + _GATHER_S, last_began + _BETWEEN_S)
        return min(max(due - now, 0.0), _IDLE_S)


@dataclass
class IncidentsQuery:
    """One life of the query. Raises what the clients of Kafka and the store raise, and InfrastructureUnavailable; the
    next life begins at what is committed, and does again what came after it.

    `first` is where a generation begins that has committed nothing: what the checkpoint of an earlier version says.
    `judged` says up to where the alerts have judged the readings; `keep_up` looks after the tables.
    """

    settings: Settings
    generation: str
    metrics: PipelineMetrics
    say: Say
    first: Position
    judged: Callable[[], Offsets]
    keep_up: Callable[..., None]
    ending: Flag = field(default_factory=Flag)
    updates: int = 0
    """Updates of this life."""
    is_busy: bool = False
    """Whether an update runs now."""

    def __post_init__(self) -> None:
        self._topics = self.settings.kafka.topics
        self._ticks = WaitingTicks(self.judged, self.say)
        self._gathered = Gathered()
        self._last_began = self._noted_at = float("-inf")
        self._is_changed = False
        """Whether the tables have something that the committed position does not say."""

    def run(self) -> None:
        """Until the end is asked for; what was read is then stored, and the position committed."""
        self._reader = TopicsReader(self.settings, self._topics.of_incidents)
        try:
            self._begin()
            while not self.ending.is_set():
                self._step()
            if self._gathered:
                self._write(None)
            self._note()
        finally:
            self._reader.close()

    def _begin(self) -> None:
        settings, generation = self.settings, self.generation
        committed = read_position(settings, generation, self._reader.partitions())
        newest, merged = newest_update(settings, generation)
        position = committed if committed.number >= 0 else self.first
        clock = position.clock or highest_value(settings, METER_WINDOWS, "window_end")
        number = max(newest, committed.number)
        self._writer = IncidentsWriter(settings, generation, self.metrics, self.say, clock, number)
        self._reader.begin(position.offsets)
        self._open_rows = self._writer.open_rows()
        self._stored = self._copied()
        self._committed = committed
        if committed.number < max(merged, 0) and (sent := self._writer.send_known()):
            self.say(f"{QUERY}: {sent} incidents are sent again, since the last update may not have reached its topic")
        self._show_position()

    def _step(self) -> None:
        now = time.monotonic()
        wait_s = self._gathered.left_s(now=now, last_began=self._last_began)
        self._take(self._reader.read(MOST_RECORDS, wait_s))
        now = time.monotonic()
        clock = self._ticks.take(self._reader.read_to[self._topics.anomalies], now=now)
        if clock is not None or self._gathered.is_due(now=now, last_began=self._last_began):
            self._write(clock)
        elif not self._gathered:
            self._stored = self._copied()
        if now - self._noted_at >= (_NOTE_EVERY_S if self._is_changed else _NOTE_CLOCK_EVERY_S):
            self._note()

    def _take(self, messages: list[Any]) -> None:
        if not messages:
            return
        gathered, now, topics = self._gathered, time.monotonic(), self._topics
        if not gathered:
            gathered.since = now
        open_rows = self._open_rows
        ticks, refused = [], 0
        for message in messages:
            topic, place = message.topic(), {"partition": message.partition(), "offset": message.offset()}
            sent_ms = message.timestamp()[1]
            if topic == topics.actions:
                gathered.actions.append(Said(message.value(), message.offset(), moment_of(sent_ms)))
                gathered.news_since = gathered.news_since or now
            elif topic == topics.ticks:
                tick = tick_of(message.value(), **place)
                ticks += [tick] if tick else []
                refused += tick is None
            elif (row := anomaly_row(message.value(), **place, kafka_ms=sent_ms)) is None:
                refused += 1
            else:
                gathered.events.append(row)
                if gathered.news_sent_s is None and is_news(row, open_rows):
                    gathered.news_since = gathered.news_since or now
                    gathered.news_sent_s = sent_ms / 1000
        if refused:
            self.say(
                f"{topics.anomalies}, {topics.ticks}: {refused} records are not of their contract and are left out"
            )
        if ticks:
            self._ticks.add(ticks, now=now, anomalies_end=committed_ends(self.settings.kafka, topics.anomalies))
        self.metrics.input_records.labels(QUERY).inc(len(messages))
        self.metrics.last_batch.labels(QUERY).set(time.time())

    def _write(self, clock: datetime | None) -> None:
        """Store what is gathered, and move the clock."""
        gathered, writer = self._gathered, self._writer
        began, self.is_busy = time.monotonic(), True
        until = max((at for at in (writer.clock, clock) if at is not None), default=None)
        updated = writer.write(gathered.events, gathered.actions, until)
        self._is_changed = self._is_changed or bool(gathered) or updated is not None
        if gathered:
            self._last_began = began
            self.metrics.batch_rows.labels(QUERY).set(len(gathered))
            self.metrics.batch_number.labels(QUERY).set(writer.number)
            self.metrics.batch_duration.labels(QUERY).observe(time.monotonic() - began)
        if gathered.news_sent_s is not None:
            delay_s = max(0.0, time.time() - gathered.news_sent_s)
            self.metrics.latency.observe("incident", np.array([delay_s]))
        self._gathered, self._stored = Gathered(), self._copied()
        if updated is not None:
            self._open_rows = writer.open_rows()
            self._tell(updated)
        self.updates, self.is_busy = self.updates + 1, False
        self.keep_up(ANOMALIES, INCIDENTS, OPERATOR_ACTIONS)

    def _tell(self, updated: Updated) -> None:
        open_now = sum(row["status"] == "open" for row in updated.rows)
        self.say(
            f"incidents update {self._writer.number}: {len(updated.rows)} incidents touched, {open_now} of them open"
        )

    def _note(self) -> None:
        """Commit how far everything is stored and sent."""
        self._noted_at = time.monotonic()
        position = Position(self._position(), self._writer.clock, max(self._writer.number, 0))
        if position.offsets != self._committed.offsets or position.clock != self._committed.clock or self._is_changed:
            commit_position(self.settings, self.generation, position, self._committed)
            self._committed, self._is_changed = position, False
        self._show_position()

    def _position(self) -> dict[str, dict[int, int]]:
        """What is stored; ticks up to the first that waits."""
        return self._stored | {self._topics.ticks: self._stored[self._topics.ticks] | self._ticks.first_offsets()}

    def _copied(self) -> dict[str, dict[int, int]]:
        return {topic: dict(partitions) for topic, partitions in self._reader.read_to.items()}

    def _show_position(self) -> None:
        self.metrics.note_read(QUERY, self._position())
