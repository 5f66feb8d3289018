"""How far the reading of a topic has come in event time, while its partitions may be out of step after a downtime.

The *frontier* of a partition is the largest accepted event time read from it. *Aligned time* follows the partition that
is furthest behind while there is a backlog, and the one furthest ahead otherwise; it never goes back. A reading is late
when it is older than the aligned time after the batch before, less the watermark. Partial panes that end later than
aligned time are held back (`held`). Why no reading sent in time is late then, and Spark drops nothing: docs/adr/0025.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

AUDIT_COLUMNS = ("kafka_partition", "max_event_ts", "gaps", "aligned_ts")
"""Columns of the table audit that a start needs."""

Ranges = Mapping[int, tuple[int, int]]
"""Partition to first offset and exclusive end offset of what a batch reads."""


def is_cut(ranges: Ranges, *, limit: int | None, ends: Mapping[int, int]) -> bool:
    """Whether a batch left something behind: then every partition of it has a backlog, else none has.

    `limit`: offsets that the source may take per batch; None for a range that an earlier run has planned, under a
    limit that nobody knows. `ends`: the topic's committed ends, read after the ranges were fixed. The source rounds
    each partition's part, so a batch that is full may miss the limit by one per partition. A batch that takes exactly
    the rest is not cut: nobody would release what it holds back.

    >>> is_cut({0: (0, 60), 1: (0, 39)}, limit=100, ends={0: 60, 1: 50})
    True
    >>> is_cut({0: (0, 60), 1: (0, 40)}, limit=100, ends={0: 60, 1: 40})
    False
    """
    taken = sum(end - first for first, end in ranges.values())
    is_full = limit is None or taken >= limit - max(len(ends), len(ranges))
    known = {partition: end for partition, (_, end) in ranges.items()}
    return is_full and any(end > known.get(partition, 0) for partition, end in ends.items())


@dataclass(frozen=True)
class BatchProgress:
    """What a batch read, per partition."""

    ranges: Ranges
    is_cut: bool
    highest_ms: Mapping[int, int]
    """Largest accepted event time of each partition that had an accepted reading."""
    records: Mapping[int, int]
    """Records of each partition; one that is not named had only gaps (markers, aborted or compacted records)."""


@dataclass(frozen=True)
class Alignment:
    """Frontiers and aligned time (epoch ms) after a batch; neither knows anything before the first reading."""

    frontiers: Mapping[int, int] = field(default_factory=dict)
    aligned_ms: int | None = None
    left_out: frozenset[int] = frozenset()
    """Partitions that are not waited for, because too many panes would be held back, until they have caught up with
    aligned time or no partition has a backlog. A start forgets them."""

    @classmethod
    def restored(cls, audit: Iterable[Mapping[str, Any]]) -> Alignment:
        """The state after the batches of some rows of `audit` (`AUDIT_COLUMNS`, times aware).

        Rows of the first edition have no `gaps` and no aligned_ts: there the largest max_event_ts decided what was
        late. A row of this edition without an aligned_ts is of a time when nothing could be said yet.
        """
        frontiers: dict[int, int] = {}
        aligned: int | None = None
        for row in audit:
            if (highest_ms := _epoch_ms(row["max_event_ts"])) is not None:
                partition = row["kafka_partition"]
                frontiers[partition] = max(frontiers.get(partition, highest_ms), highest_ms)
            is_of_first_edition = row["gaps"] is None
            aligned = _later(aligned, highest_ms if is_of_first_edition else _epoch_ms(row["aligned_ts"]))
        return cls(frontiers, aligned)

    def late_before_ms(self, watermark_s: float) -> int | None:
        """A reading of the next batch with an earlier event time is late; None: nothing is."""
        return None if self.aligned_ms is None else self.aligned_ms - round(watermark_s * 1000)

    def after(
        self,
        batch: BatchProgress,
        *,
        max_held: int | None = None,
        held_after: Callable[[int | None], int] = lambda _: 0,
    ) -> Alignment:
        """The state after a batch.

        `held_after`: how many panes end later than a time (epoch ms; None: all of them). At most `max_held` of them
        are held back: beyond it the partition furthest behind does not count, then the next one.
        """
        frontiers = _furthest(self.frontiers, batch.highest_ms)
        left_out = {p for p in self.left_out if batch.is_cut and _is_behind(frontiers.get(p), self.aligned_ms)}
        for partition, frontier_ms in _waited_for(batch, frontiers, but=left_out):
            reached = _later(self.aligned_ms, frontier_ms)
            if max_held is None or held_after(reached) <= max_held:
                break
            left_out.add(partition)
        else:
            reached = _later(self.aligned_ms, max(frontiers.values(), default=None))
        return Alignment(frontiers, reached, frozenset(p for p in left_out if _is_behind(frontiers.get(p), reached)))


def _waited_for(
    batch: BatchProgress, frontiers: Mapping[int, int], *, but: Iterable[int]
) -> list[tuple[int, int | None]]:
    """Partitions with a backlog, but some, and their frontiers, the one furthest behind first.

    A frontier of None: there was nothing but gaps so far, and whatever comes may be older than all that was read. A
    partition whose records were all rejected is not waited for: garbage says nothing of what follows.
    """
    if not batch.is_cut:
        return []
    read = {partition for partition, (first, end) in batch.ranges.items() if end > first}
    counted = [p for p in read.difference(but) if p in frontiers or not batch.records.get(p)]
    return sorted(((p, frontiers.get(p)) for p in counted), key=lambda at: (at[1] is not None, at[1] or 0, at[0]))


def _is_behind(frontier_ms: int | None, aligned_ms: int | None) -> bool:
    return aligned_ms is not None and (frontier_ms is None or frontier_ms < aligned_ms)


def _furthest(before: Mapping[int, int], highest_ms: Mapping[int, int]) -> dict[int, int]:
    return dict(before) | {p: max(before.get(p, ms), ms) for p, ms in highest_ms.items()}


def _later(before: int | None, now: int | None) -> int | None:
    return max((ms for ms in (before, now) if ms is not None), default=None)


def _epoch_ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)
