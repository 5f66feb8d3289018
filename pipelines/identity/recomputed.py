"""What recomputes have put into meter_windows: windows that begin anew from readings are without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from pipelines.settings import Settings
from pipelines.small_tables import read_rows
from pipelines.tables import RECOMPUTATIONS

Range = tuple[datetime, datetime]
"""Event times, aware: inclusive start and exclusive end."""

_LOST = (
    "the windows begin without what `gridwatch recompute` had put in, and anomalies stay as it left them: once the"
    " pipeline has caught up, stop it and run, with --notify where Kafka was told"
)


def what_to_recompute(settings: Settings) -> Iterator[str]:
    """What to tell a person whose windows begin anew: a sentence and a command line a range; nothing without a run."""
    ranges = recomputed_ranges(settings)
    if ranges:
        yield _LOST
    for since, until in ranges:
        yield f"  gridwatch recompute --from {_utc(since)} --to {_utc(until)}"


def recomputed_ranges(settings: Settings) -> list[Range]:
    """The ranges of all recomputes in order of time, those that died included: they may have written windows too."""
    found = read_rows(settings, RECOMPUTATIONS, columns=["since", "until"]).group_by(["since", "until"]).aggregate([])
    return merged((row["since"], row["until"]) for row in found.to_pylist())


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in order, overlapping ones as one. Those that only touch stay apart: a smaller one needs less heap."""
    found: list[Range] = []
    for since, until in sorted(ranges):
        if found and since < found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        else:
            found.append((since, until))
    return found


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).replace(tzinfo=None).isoformat()
