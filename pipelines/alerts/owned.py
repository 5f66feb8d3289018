"""The partitions that a member holds: where each stands, and whether its records may be judged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class Held:
    """One partition from its assignment to its revocation; after the next assignment it is another object."""

    partition: int
    position: int | None
    """Offset of the next record to judge; None while nobody knows where to begin."""
    committed: int | None
    is_live: bool
    """Whether records from Kafka are judged; else it waits for where to begin, or for what Kafka no longer has."""


Mark = list[tuple[Held, int]]
"""Positions up to which everything is judged and sent."""


@dataclass
class Owned:
    """All partitions of a member. Nothing of a partition is judged or committed once it is given up."""

    held: dict[int, Held] = field(default_factory=dict)
    _changed: set[int] = field(default_factory=set)

    def take_up(self, committed: dict[int, int], partitions: Iterable[int]) -> None:
        """Partitions that were assigned: those with a committed offset are live at once."""
        for partition in partitions:
            at = committed.get(partition)
            self.held[partition] = Held(partition, at, at, at is not None)
            self._changed.add(partition)

    def give_up(self, partitions: Iterable[int]) -> Mark:
        """Partitions that are revoked or lost; returns where they stood, as far as that is known."""
        gone = [self.held.pop(partition) for partition in partitions if partition in self.held]
        self._changed.update(held.partition for held in gone)
        return [(held, held.position) for held in gone if held.position is not None]

    def is_mine(self, held: Held) -> bool:
        """Whether a partition has been held without a break since."""
        return self.held.get(held.partition) is held

    def admit(self, records: Sequence[Any]) -> tuple[list[Any], set[Held]]:
        """The records to judge of one call to the client, and the partitions to be read again from their position.

        A call in which partitions change hands may return records from before, also of a partition that has come back
        at another position. Those are left out. So are records below the position.
        """
        changed, self._changed = self._changed, set()
        live = {number: held for number, held in self.held.items() if held.is_live}
        if not changed:
            positions = {number: held.position or 0 for number, held in live.items()}
            return [r for r in records if r.offset() >= positions.get(r.partition(), r.offset() + 1)], set()
        again = {live[r.partition()] for r in records if r.partition() in changed and r.partition() in live}
        kept = [r for r in records if r.partition() in live and r.partition() not in changed]
        return [r for r in kept if r.offset() >= (live[r.partition()].position or 0)], again

    def advance(self, partition: int, position: int) -> None:
        """All records below the position are judged."""
        held = self.held.get(partition)
        if held is not None and held.is_live:
            held.position = max(position, held.position or 0)

    def mark(self) -> Mark:
        """Where each live partition stands."""
        return [(held, held.position) for held in self.held.values() if held.is_live and held.position is not None]

    def to_commit(self, mark: Mark) -> Mark:
        """What of a mark is still ours and not committed."""
        return [(held, at) for held, at in mark if self.is_mine(held) and at > (held.committed or -1)]
