"""Where a member begins to judge a partition, when Kafka does not know it or no longer has the records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.identity.tables import audited, noted_start
from pipelines.settings import Settings


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
