"""Ranges of Kafka offsets: what two lists of them have in common, and what one has beyond the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class OffsetRange:
    """Offsets from `first` to `last`, both included."""

    first: int
    last: int

    @property
    def count(self) -> int:
        """Number of offsets."""
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"


def count_offsets(ranges: Iterable[OffsetRange]) -> int:
    """Number of offsets in ranges that do not overlap."""
    return sum(one.count for one in ranges)


def common(ranges: Sequence[OffsetRange], others: Sequence[OffsetRange]) -> list[OffsetRange]:
    """The offsets that are in both lists. Each list is in order and without overlaps; so is the result.

    >>> [str(r) for r in common([OffsetRange(1, 5), OffsetRange(8, 9)], [OffsetRange(0, 2), OffsetRange(4, 8)])]
    ['1..2', '4..5', '8']
    """
    return list(_common(ranges, others))


def _common(ranges: Sequence[OffsetRange], others: Sequence[OffsetRange]) -> Iterator[OffsetRange]:
    mine = theirs = 0
    while mine < len(ranges) and theirs < len(others):
        a, b = ranges[mine], others[theirs]
        first, last = max(a.first, b.first), min(a.last, b.last)
        if first <= last:
            yield OffsetRange(first, last)
        if a.last < b.last:
            mine += 1
        else:
            theirs += 1


def beyond(ranges: Sequence[OffsetRange], others: Sequence[OffsetRange]) -> list[OffsetRange]:
    """The offsets of the first list that are not in the second; order and overlaps as in `common`.

    >>> [str(r) for r in beyond([OffsetRange(1, 9)], [OffsetRange(0, 2), OffsetRange(5, 5)])]
    ['3..4', '6..9']
    """
    return common(ranges, list(_between(others)))


def _between(ranges: Sequence[OffsetRange]) -> Iterator[OffsetRange]:
    """All offsets that are in none of the ranges."""
    first = 0
    for one in ranges:
        if one.first > first:
            yield OffsetRange(first, one.first - 1)
        first = max(first, one.last + 1)
    yield OffsetRange(first, 1 << 63)


def united(ranges: Iterable[OffsetRange]) -> list[OffsetRange]:
    """The offsets of ranges in any order, as a list in order and without overlaps.

    >>> [str(r) for r in united([OffsetRange(5, 9), OffsetRange(0, 2), OffsetRange(3, 6)])]
    ['0..9']
    """
    result: list[OffsetRange] = []
    for one in sorted(ranges):
        if result and one.first <= result[-1].last + 1:
            result[-1] = OffsetRange(result[-1].first, max(result[-1].last, one.last))
        else:
            result.append(one)
    return result
