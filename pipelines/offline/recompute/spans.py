"""Spans of window ends that are computed again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipelines.incidents.rows import epoch_ms

NEAR_MS = 3_600_000
"""Spans that are this near are one."""


@dataclass(frozen=True)
class Span:
    """Window ends `first` to `last`, both included: all that may change."""

    first: datetime
    last: datetime


def merge_spans(reaches: Iterable[tuple[int, int | None]], *, newest: datetime) -> list[Span]:
    """Spans of closed windows, in order and more than NEAR_MS apart.

    In: first and last window end (epoch ms) that one slide's readings may change; None: up to `newest`, the newest
    end of meter_windows. What lies behind it is not closed and left out.

    >>> def hours(*reaches):
    ...     return [(s.first.hour, s.last.hour) for s in merge_spans(reaches, newest=moment_of(9 * NEAR_MS))]
    >>> hours((0, NEAR_MS), (NEAR_MS, 2 * NEAR_MS)), hours((0, 0), (5 * NEAR_MS, None)), hours((10 * NEAR_MS, None))
    ([(0, 2)], [(0, 0), (5, 9)], [])
    """
    limit = epoch_ms(newest)
    closed = sorted((first, limit if last is None else min(last, limit)) for first, last in reaches if first <= limit)
    merged: list[tuple[int, int]] = []
    for first, last in closed:
        if merged and first - merged[-1][1] <= NEAR_MS:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return [Span(moment_of(first), moment_of(last)) for first, last in merged]


def neighbours(ends: Sequence[datetime], span: Span) -> tuple[datetime, datetime]:
    """The window ends beside a span that it does not change, which an anomaly near its edges may belong to.

    In: stored window ends, sorted. Out: the latest before the span and the earliest behind it; its own edge where
    there is none.
    """
    before = max((end for end in ends if end < span.first), default=span.first)
    behind = min((end for end in ends if end > span.last), default=span.last)
    return before, behind


def moment_of(at_ms: int) -> datetime:
    """The moment of epoch milliseconds, UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=at_ms)
