"""Partitions that cannot begin at once: the group does not know them, or Kafka no longer has what they need next."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipelines.alerts.owned import Held
from pipelines.alerts.positions import Recorded
from pipelines.errors import DataRefused

Say = Callable[[str], None]


@dataclass
class Settling:
    """Finds where partitions go on. Slow: it asks Kafka and the tables, and judges stored readings.

    `bounds` says the first offset that Kafka has of a partition, and the next one; `publish` judges the stored
    readings of a partition between two offsets and sends what is found.
    """

    recorded: Callable[[], Recorded]
    bounds: Callable[[int], tuple[int, int]]
    publish: Callable[[Held, int, int], int]
    say: Say
    _told: set[str] = field(default_factory=set)

    def step(self, waiting: Mapping[Held, int | None]) -> dict[Held, int]:
        """The partitions, of those that wait at a position (None: not known), that can go on now, and where.

        Raises DataRefused for a position behind the end of its partition; what the clients raise; nothing is lost by
        asking again.
        """
        known = self.recorded()
        found = {held: self._place(held, position, known) for held, position in waiting.items()}
        return {held: at for held, at in found.items() if at is not None}

    def _place(self, held: Held, position: int | None, known: Recorded) -> int | None:
        partition = held.partition
        first, end = self.bounds(partition)
        if position is None:
            if known.start is None:
                self._tell("waiting for the first start of a pipeline of this version: it notes where alerts begin")
                return None
            position = known.begin(partition, first)
        if position > end:
            raise DataRefused(
                f"partition {partition} of the readings ends at offset {end}, and the alerts have judged up to"
                f" {position}: the topic was deleted and made again; begin with a lake.root of its own"
            )
        if position >= first:
            return position
        if not known.accounts_for(partition, first):
            self._tell(
                f"partition {partition}: Kafka begins at offset {first} and {position} is next; its alerts wait until"
                " the archive accounts for that (a batch, or `gridwatch checkpoint skip-range`)"
            )
            return None
        began = time.monotonic()
        sent = self.publish(held, position, first)
        self.say(
            f"partition {partition}: offsets {position} to {first - 1} are gone from Kafka and were judged from the"
            f" table readings in {time.monotonic() - began:.1f} s: {sent} anomalies"
        )
        return first if self.bounds(partition)[0] <= first else None

    def _tell(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self.say(line)
