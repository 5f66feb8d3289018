"""One member of the group: reads its partitions, judges, sends, and commits what is acknowledged."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Event as Flag
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.alerts import READY
from pipelines.alerts.client import NEVER_PASSES, explained, member_options
from pipelines.alerts.errand import Errand
from pipelines.alerts.group import Group, committed_of
from pipelines.alerts.judging import Judging, publish_stored
from pipelines.alerts.outbox import Event, Outbox
from pipelines.alerts.owned import Held, Mark, Owned
from pipelines.alerts.positions import Recorded, Settling
from pipelines.alerts.reference import Reference
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.observe.metrics import AlertsMetrics
from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS

Say = Callable[[str], None]

_MOST = 10_000
"""Records that are judged at once: some 20 ms of work in a catch-up. A call of the rules costs 3 ms at least."""
_FEW = 1_000
_GATHER_S = 0.008
_IDLE_S = 0.25
_SHORT_S = 0.02
_COMMIT_EVERY_S = 1.0
_SETTLE_EVERY_S = 2.0
_PATIENCE_S = 10.0
_FLUSH_S = 30.0
_LOOK_EVERY_S = 10.0


class NobodyHas(GridwatchError):
    """Partitions that no member of the group has: a rebalance is due that does not come by itself."""


@dataclass
class Member:
    """One life of a member, from joining the group to leaving it.

    Raises MemberFenced when another one has its name; InfrastructureUnavailable, or JudgingFailed for a mistake of
    ours, when it must begin again at what is committed; DataRefused when positions and topic do not fit.
    """

    settings: Settings
    group: Group
    name: str
    reference: Reference
    metrics: AlertsMetrics
    say: Say
    ending: Flag

    def __post_init__(self) -> None:
        self._topic = self.settings.kafka.topics.readings
        self._owned = Owned()
        self._judging = Judging(self.settings)
        self._outbox: Outbox[Mark] = Outbox(self.settings, self._count)
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit}
        self._consumer: Any = Consumer(member_options(self.settings, self.group.name, self.name) | callbacks)
        self._settling = Settling(lambda: Recorded.read(self.settings), self.group.bounds, self._publish, self.say)
        self._errand: Errand[dict[Held, int]] = Errand("gridwatch-settling")
        self._looking: Errand[frozenset[int]] = Errand("gridwatch-unassigned")
        self._looked_at = time.monotonic()
        self._unassigned: frozenset[int] = frozenset()
        self._committed_at = 0.0
        self._settled_at = -_SETTLE_EVERY_S
        self._trouble: str | None = None
        self._is_ready = False

    def run(self) -> None:
        """Judge until the end is asked for; then everything is acknowledged and committed, and the group keeps the
        place for the next life under this name."""
        try:
            self._consumer.subscribe(
                [self._topic], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
            while not self.ending.is_set():
                began = time.monotonic()
                self._judge(messages := self._take())
                self._keep_up()
                if 0 < len(messages) < _FEW:
                    # A call of the rules costs a millisecond, however few readings it judges: in a storm gather some.
                    time.sleep(min(2 * (time.monotonic() - began), _GATHER_S))
            self._finish()
        except KafkaException as error:
            raise explained(error, self.settings, self.group.name, self.name) from None
        except NobodyHas:
            self._finish()
            raise
        finally:
            self._owned.give_up(list(self._owned.held))  # what is not committed by now is judged again
            self._consumer.close()

    def _take(self) -> list[Any]:
        """What is there; waits a moment when nothing is."""
        first = self._consumer.poll(_SHORT_S if self._errand.is_out else _IDLE_S)
        return [] if first is None else [first, *self._consumer.consume(_MOST - 1, 0)]

    def _judge(self, messages: Sequence[Any]) -> None:
        if not messages:
            self._owned.admit([])
            return
        records, again = self._owned.admit([m for m in messages if m.error() is None])
        for held in again:
            self._go_on(held)
        if records:
            for event in self._judging.events(records, self.reference.judge):
                self._outbox.send(event)
            for partition, position in {r.partition(): r.offset() + 1 for r in records}.items():
                self._owned.advance(partition, position)
            self.metrics.judged.inc(len(records))
        for message in messages:
            if message.error() is not None:
                self._look_at(message, {held.partition for held in again})

    def _look_at(self, message: Any, again: set[int]) -> None:
        """A message that is no record. Raises KafkaException for what does not pass by itself."""
        error, partition = message.error(), message.partition()
        if error.code() == KafkaError._PARTITION_EOF:
            if partition not in again:
                self._owned.advance(partition, message.offset())  # behind markers of transactions too
        elif error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            held = self._owned.held.get(partition)
            if held is not None and held.is_live:
                held.is_live = False
        elif error.fatal() or error.code() in NEVER_PASSES:
            raise KafkaException(error)

    def _keep_up(self) -> None:
        self._commit_acknowledged()
        self._settle()
        self._look_for_unassigned()
        self.reference.step()

    def _commit_acknowledged(self) -> None:
        now = time.monotonic()
        if now - self._committed_at >= _COMMIT_EVERY_S and not self._outbox.has_marks:
            self._committed_at = now
            self._outbox.mark(self._owned.mark())
        mark = self._outbox.acknowledged()
        if mark is not None and (due := self._owned.to_commit(mark)):
            self._consumer.commit(offsets=self._offsets(due), asynchronous=True)

    def _settle(self) -> None:
        """Begin with partitions whose place was found; ask for those that wait."""
        waiting = {held: held.position for held in self._owned.held.values() if not held.is_live}
        for state, count in (("live", len(self._owned.held) - len(waiting)), ("waiting", len(waiting))):
            self.metrics.partitions.labels(state).set(count)
        if self._errand.is_out:
            self._take_places()
        elif waiting and time.monotonic() - self._settled_at >= _SETTLE_EVERY_S:
            self._settled_at = time.monotonic()
            self._errand.start(lambda: self._settling.step(waiting))

    def _look_for_unassigned(self) -> None:
        """Raises NobodyHas for partitions that two looks in a row have found without a member.

        A static member that comes back gets its old partitions without a rebalance. When partitions were added while
        it was away it sees them as always there, and nobody would ever ask for them.
        """
        now = time.monotonic()
        if not self._looking.is_out:
            if self._is_ready and now - self._looked_at >= _LOOK_EVERY_S:
                self._looked_at = now
                self._looking.start(self.group.unassigned)
            return
        try:
            found = self._looking.take()
        except InfrastructureUnavailable:
            self._unassigned = frozenset()
            return
        for unassigned in found:
            if forgotten := unassigned & self._unassigned:
                raise NobodyHas(
                    f"partitions {_listed(list(forgotten))} have no member: {self.name} joins the group again"
                )
            self._unassigned = unassigned

    def _take_places(self) -> None:
        try:
            found = self._errand.take()
        except (InfrastructureUnavailable, *STORE_ERRORS) as problem:
            self._tell(f"partitions wait to begin: {str(problem).splitlines()[0]}")
            return
        for held, position in (place for places in found for place in places.items()):
            if self._owned.is_mine(held):
                held.position = position
                held.is_live = self._is_committed([(held, position)])
                if held.is_live:
                    self._go_on(held)

    def _go_on(self, held: Held) -> None:
        """Read a partition from its position on, whatever of it the client still holds."""
        place = TopicPartition(self._topic, held.partition, held.position or 0)
        self._consumer.seek(place)
        self._consumer.resume([place])

    def _on_assign(self, consumer: Any, assigned: list[TopicPartition]) -> None:
        known = committed_of(consumer.committed(assigned, timeout=_PATIENCE_S)) if assigned else {}
        partitions = [one.partition for one in assigned]
        self._owned.take_up(known, partitions)
        # One without a position is held back until it has one: `_go_on`.
        consumer.incremental_assign([TopicPartition(self._topic, p, known.get(p, 0)) for p in partitions])
        if held_back := [TopicPartition(self._topic, p) for p in partitions if p not in known]:
            consumer.pause(held_back)
        self.say(f"partitions {_listed(partitions)} assigned to {self.name}")
        if not self._is_ready:
            self._is_ready = True
            self.metrics.up.set(1)
            self.say(f"{READY} {self._topic} at {self.settings.kafka.bootstrap_servers} in group {self.group.name}")

    def _on_revoke(self, consumer: Any, revoked: list[TopicPartition]) -> None:
        partitions = [one.partition for one in revoked]
        stood = self._owned.give_up(partitions)
        due = [(held, at) for held, at in stood if held.is_live and at > (held.committed or -1)]
        if due and self._outbox.flush(_PATIENCE_S):
            self._is_committed(due)
        consumer.incremental_unassign(revoked)
        self._forget(partitions)
        self.say(f"partitions {_listed(partitions)} given up by {self.name}")

    def _on_lost(self, consumer: Any, lost: list[TopicPartition]) -> None:
        """Others hold them already: nothing may be committed."""
        partitions = [one.partition for one in lost]
        self._owned.give_up(partitions)
        consumer.incremental_unassign(lost)
        self._forget(partitions)
        self.say(f"partitions {_listed(partitions)} lost by {self.name}")

    def _on_commit(self, error: KafkaError | None, offsets: list[TopicPartition]) -> None:
        """What did not work is tried again with the next mark."""
        if error is not None:
            return
        for one in offsets:
            held = self._owned.held.get(one.partition)
            if one.error is None and held is not None:
                held.committed = one.offset
                self.metrics.committed.labels(str(one.partition)).set(one.offset)

    def _on_error(self, error: KafkaError) -> None:
        """Of the connections; the client tries again by itself."""
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._tell(f"no broker of {self.settings.kafka.bootstrap_servers} answers; alerts go on when one does")

    def _finish(self) -> None:
        mark = self._owned.mark()
        if self._outbox.flush(_FLUSH_S) and (due := self._owned.to_commit(mark)):
            self._is_committed(due)

    def _is_committed(self, mark: Mark) -> bool:
        """Commit, and wait for it. What does not work is judged again by whoever holds the partitions next."""
        try:
            answers = self._consumer.commit(offsets=self._offsets(mark), asynchronous=False)
        except KafkaException:
            return False
        for held, at in mark:
            held.committed = at
        return all(one.error is None for one in answers)

    def _publish(self, held: Held, since: int, until: int) -> int:
        def goes_on() -> bool:
            return self._owned.is_mine(held) and not self.ending.is_set()

        return publish_stored(self.settings, self.reference.judge, held.partition, since, until, goes_on=goes_on)

    def _offsets(self, mark: Mark) -> list[TopicPartition]:
        return [TopicPartition(self._topic, held.partition, at) for held, at in mark]

    def _forget(self, partitions: Sequence[int]) -> None:
        for partition in map(str, partitions):
            if (partition,) in self.metrics.committed._metrics:
                self.metrics.committed.remove(partition)

    def _count(self, event: Event) -> None:
        self.metrics.sent.labels(event["anomalyType"]).inc()

    def _tell(self, line: str) -> None:
        if line != self._trouble:
            self._trouble = line
            self.say(line)


def _listed(partitions: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(partitions))) or "none"
