"""Offsets that are in no table although the archive has passed them: without a record, or lost.

A marker of a transaction uses up an offset and is not a record; records of an aborted transaction are there and do
not count. `audit` says how many such offsets each batch had. Kafka says which of them hold a committed record after
all: that one is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipelines.broker.reread import records_in
from pipelines.reconcile.ranges import OffsetRange, beyond, common, count_offsets, united
from pipelines.settings import Settings
from pipelines.topics import topic_config

Say = Callable[[str], None]
_COMPACT = "compact"


@dataclass(frozen=True)
class BatchGaps:
    """A batch of `audit` with offsets that held no record: where it lies, and how many they are."""

    place: OffsetRange
    gaps: int


@dataclass(frozen=True)
class Gaps:
    """What became of missing offsets."""

    lost: tuple[OffsetRange, ...] = ()
    lost_count: int = 0
    markers: int = 0
    aborted: int = 0
    unread: int = 0
    """Without a record by `audit` alone: nobody has asked Kafka."""
    problem: str | None = None

    @property
    def count(self) -> int:
        """Offsets without a committed record."""
        return self.markers + self.aborted + self.unread


class LookAgain(Protocol):
    """Says of a partition's missing offsets, of batches with gaps, what Kafka still has of them."""

    def __call__(self, partition: int, missing: Sequence[OffsetRange]) -> Gaps: ...


def explain_missing(
    missing: Sequence[OffsetRange], batches: Sequence[BatchGaps], partition: int, look_again: LookAgain | None
) -> Gaps:
    """Tell gaps from losses. `missing`: in order, without overlaps; `batches`: those of the partition with gaps.

    An offset of a batch without gaps was a record, so it is lost. The others Kafka decides; without it they are gaps,
    as many of each batch as `audit` has counted.
    """
    places = united(batch.place for batch in batches)
    lost, open_ones = beyond(missing, places), common(missing, places)
    found = look_again(partition, open_ones) if look_again and open_ones else _by_audit(open_ones, batches)
    return Gaps(
        tuple(sorted([*lost, *found.lost])), count_offsets(lost) + found.lost_count,
        found.markers, found.aborted, found.unread, found.problem,
    )  # fmt: skip


def _by_audit(missing: Sequence[OffsetRange], batches: Sequence[BatchGaps]) -> Gaps:
    lost, lost_count = list[OffsetRange](), 0
    for batch in batches:
        here = common(missing, [batch.place])
        if (more := count_offsets(here) - batch.gaps) > 0:
            lost_count += more
            lost += here
    return Gaps(tuple(lost), lost_count, unread=count_offsets(missing) - lost_count)


@dataclass(frozen=True)
class KafkaAgain:
    """Reads missing offsets of the readings' topic again. Only where Kafka deletes records by age or size alone can an
    offset without a record be told from a lost one."""

    settings: Settings
    say: Say

    def __call__(self, partition: int, missing: Sequence[OffsetRange]) -> Gaps:
        """What Kafka holds at these offsets. Raises InfrastructureUnavailable when it does not answer."""
        topic = self.settings.kafka.topics.readings
        if _COMPACT in (topic_config(self.settings.kafka, topic, "cleanup.policy") or ""):
            return Gaps(
                tuple(missing), count_offsets(missing),
                problem=f"topic {topic} has cleanup.policy=compact: Kafka may remove records before they are read, so"
                " every missing offset counts as lost; set cleanup.policy=delete",
            )  # fmt: skip
        self.say(f"partition {partition}: {count_offsets(missing)} offsets without a record are read again")
        lost = self._read(partition, missing, committed=True)
        rest = beyond(missing, lost)
        aborted = count_offsets(self._read(partition, rest, committed=False))
        return Gaps(tuple(lost), count_offsets(lost), count_offsets(rest) - aborted, aborted)

    def _read(self, partition: int, ranges: Sequence[OffsetRange], *, committed: bool) -> list[OffsetRange]:
        kafka = self.settings.kafka
        pairs = [(one.first, one.last) for one in ranges]
        return _as_ranges(records_in(kafka, kafka.topics.readings, partition, pairs, committed=committed))


def _as_ranges(offsets: Iterable[int]) -> list[OffsetRange]:
    """Ascending offsets as ranges.

    >>> [str(one) for one in _as_ranges([1, 2, 3, 7])]
    ['1..3', '7']
    """
    result: list[OffsetRange] = []
    for offset in offsets:
        if result and offset == result[-1].last + 1:
            result[-1] = OffsetRange(result[-1].first, offset)
        else:
            result.append(OffsetRange(offset, offset))
    return result
