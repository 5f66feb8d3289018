"""What a reconciliation of Kafka with the tables found, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SHOWN_RANGES = 5
"""So many lost ranges and doubled offsets of a partition are named; the counts are always complete."""


@dataclass(frozen=True)
class OffsetRange:
    """Offsets from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}..{self.last}"


@dataclass(frozen=True)
class PartitionReport:
    """One Kafka partition: offsets from `start` up to, without, `committed_end` must be in the tables."""

    partition: int
    log_start: int
    """First offset that Kafka still has."""
    broker_end: int
    """Offset that Kafka gives to the next record."""
    start: int
    """Counting begins here: the larger of log start and first archived offset."""
    committed_end: int
    """One past the last offset that the archive has committed in `audit`."""
    archived: int
    rejected: int
    lost: int
    lost_ranges: tuple[OffsetRange, ...]
    """The first few ranges of lost offsets."""
    duplicates: int
    """Rows too many: rows minus different offsets, over both tables."""
    duplicate_offsets: tuple[int, ...]
    """The first few offsets that stand more than once."""
    beyond: int
    """Rows with an offset that Kafka has never given out: of another topic's life, or of another topic."""
    ahead: int
    """Rows past `committed_end` that Kafka has: a batch whose audit row is still to come."""
    skipped: int = 0
    """Offsets in no table that a command has noted in `audit` as lost."""

    @property
    def lag(self) -> int:
        """Records in Kafka that the archive has not committed yet; not lost."""
        return max(self.broker_end - self.committed_end, 0)

    @property
    def unaccounted(self) -> int:
        """Lost offsets, and rows that no record of the topic explains."""
        return self.lost + self.beyond


@dataclass(frozen=True)
class VerifyReport:
    """What the comparison found; `ok` when every record is stored exactly once and the audit agrees."""

    topic: str
    partitions: tuple[PartitionReport, ...]
    rejected_by_reason: Mapping[str, int] = field(default_factory=dict)
    late: int = 0
    resent: int = 0
    audit_problems: tuple[str, ...] = ()

    @property
    def archived(self) -> int:
        """Rows in readings."""
        return sum(p.archived for p in self.partitions)

    @property
    def rejected(self) -> int:
        """Rows in rejected."""
        return sum(p.rejected for p in self.partitions)

    @property
    def lost(self) -> int:
        """Offsets in neither table."""
        return sum(p.lost for p in self.partitions)

    @property
    def duplicates(self) -> int:
        """Rows whose offset stands already in one of the tables."""
        return sum(p.duplicates for p in self.partitions)

    @property
    def skipped(self) -> int:
        """Offsets noted as lost by a command."""
        return sum(p.skipped for p in self.partitions)

    @property
    def unaccounted(self) -> int:
        """Lost offsets and rows that Kafka does not explain."""
        return sum(p.unaccounted for p in self.partitions)

    @property
    def lag(self) -> int:
        """Records that wait for the archive."""
        return sum(p.lag for p in self.partitions)

    @property
    def ok(self) -> bool:
        """Whether nothing is lost, doubled or contradictory; lag is no fault."""
        return not (self.unaccounted or self.duplicates or self.audit_problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """One sentence for each thing that is wrong."""
        return (*(text for p in self.partitions for text in _problems(p)), *self.audit_problems)

    @property
    def verdict(self) -> str:
        """One line: all is well, or what is wrong and where."""
        counts = f"{self.archived} archived + {self.rejected} rejected"
        counts += f" + {self.skipped} noted as skipped" if self.skipped else ""
        waiting = f"; {self.lag} more wait in Kafka (lag)" if self.lag else ""
        if self.ok:
            return f"ok: {self.topic}: {counts}, every record exactly once{waiting}"
        return f"mismatch in {self.topic}: {'; '.join(self.problems)} ({counts}{waiting})"

    def to_json(self) -> dict[str, Any]:
        """The report with its sums, ready for `json.dumps`."""
        names = (
            "topic",
            "ok",
            "verdict",
            "archived",
            "rejected",
            "late",
            "resent",
            "lost",
            "duplicates",
            "unaccounted",
            "skipped",
            "lag",
        )
        partitions = [asdict(p) | {"lag": p.lag, "unaccounted": p.unaccounted} for p in self.partitions]
        return {name: getattr(self, name) for name in names} | {
            "rejected_by_reason": dict(self.rejected_by_reason),
            "audit_problems": list(self.audit_problems),
            "partitions": partitions,
        }


def _problems(part: PartitionReport) -> Iterator[str]:
    where = f"partition {part.partition}"
    if part.lost:
        more = ", ..." if len(part.lost_ranges) == SHOWN_RANGES else ""
        ranges = ", ".join(map(str, part.lost_ranges))
        yield f"{where}: {_count(part.lost, 'offset')} in neither readings nor rejected: {ranges}{more}"
    if part.duplicates:
        more = ", ..." if len(part.duplicate_offsets) == SHOWN_RANGES else ""
        offsets = ", ".join(map(str, part.duplicate_offsets))
        rows = _count(part.duplicates, "row")
        yield f"{where}: {rows} too many in readings + rejected, at offset {offsets}{more}"
    if part.beyond:
        yield (
            f"{where}: {_count(part.beyond, 'row')} that Kafka does not know (its end is {part.broker_end}):"
            " the topic was made anew, or this is another cluster's lake"
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
