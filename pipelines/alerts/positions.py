"""Where a member begins to judge a partition, when the group does not know it or Kafka no longer has the records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.alerts.owned import Held
from pipelines.errors import DataRefused
from pipelines.identity.tables import audited, noted_start
from pipelines.settings import Settings

Say = Callable[[str], None]


@dataclass(frozen=True)
class Recorded:
    """What the lake says of each partition of the readings."""

    judged: Mapping[int, int] = field(default_factory=dict)
    """Offset up to which the group had judged, as the archive noted it with its newest batches."""
    first: Mapping[int, int] = field(default_factory=dict)
    """First offset that `audit` accounts for."""
    ends: Mapping[int, int] = field(default_factory=dict)
    """One past the last offset that `audit` accounts for."""
    start: Mapping[int, int] | None = None
    """Where the very first member was to begin; None while no pipeline of this version has noted it."""

    @classmethod
    def read(cls, settings: Settings) -> Recorded:
        """What is there now. Raises what the store's client raises."""
        columns = ("kafka_topic", "kafka_partition", "first_offset", "last_offset", "judged_until")
        topic = settings.kafka.topics.readings
        rows = [row for row in audited(settings, *columns) if row["kafka_topic"] == topic]
        return cls.of(rows, noted_start(settings))

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], start: Mapping[int, int] | None) -> Recorded:
        """From rows of `audit`, in any order.

        >>> old = {"kafka_partition": 0, "first_offset": 5, "last_offset": 9, "judged_until": 7}
        >>> new = {"kafka_partition": 0, "first_offset": 10, "last_offset": 19, "judged_until": None}
        >>> Recorded.of([new, old], {0: 5})
        Recorded(judged={0: 7}, first={0: 5}, ends={0: 20}, start={0: 5})
        """
        judged: dict[int, int] = {}
        first: dict[int, int] = {}
        ends: dict[int, int] = {}
        for row in sorted(rows, key=lambda row: row["last_offset"]):
            partition = row["kafka_partition"]
            first[partition] = min(row["first_offset"], first.get(partition, row["first_offset"]))
            ends[partition] = max(row["last_offset"] + 1, ends.get(partition, 0))
            if row["judged_until"] is not None:
                judged[partition] = row["judged_until"]
        return cls(judged, first, ends, start)

    def begin(self, partition: int, beginning: int) -> int:
        """Where a partition begins that the group does not know; `beginning`: the first offset Kafka has.

        It may be too early, never too late: what is judged again has the same ids. A partition that nothing is known
        of was added later, and begins at its beginning.
        """
        for known in (self.judged, self.start or {}, self.first):
            if partition in known:
                return known[partition]
        return beginning

    def accounts_for(self, partition: int, until: int) -> bool:
        """Whether `audit` accounts for everything below an offset, so that `readings` holds all of it that counts."""
        return self.ends.get(partition, 0) >= until


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
