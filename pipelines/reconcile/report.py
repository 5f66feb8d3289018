"""What a reconciliation of Kafka with the tables found, and how it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pipelines.reconcile.ranges import OffsetRange

SHOWN_RANGES = 5
"""Maximum number of lost ranges and of offsets that a partition's report names; the counts are always complete."""


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
    """Rows beyond the first of each offset and item, over both tables."""
    duplicate_offsets: tuple[int, ...]
    """The first few offsets with such rows."""
    beyond: int
    """Rows with an offset that Kafka has never given out: of another topic's life, or of another topic."""
    ahead: int
    """Rows past `committed_end` that Kafka has: a batch whose audit row is still to come."""
    skipped: int = 0
    """Offsets in no table that a command has noted in `audit` as lost."""
    gaps: int = 0
    """Offsets in no table that hold no committed record: nothing is lost there."""
    markers: int = 0
    """Of the gaps: those where Kafka holds no record at all, as at the marker of a transaction."""
    aborted: int = 0
    """Of the gaps: records of transactions that were aborted."""
    missing_items: int = 0
    """Readings missing within a record: their number is below another one of the same offset."""
    missing_item_offsets: tuple[int, ...] = ()
    """The first few offsets of such records."""
    readable_end: int | None = None
    """Offset behind which records are of transactions that are still open; None where nobody asked."""

    @property
    def lag(self) -> int:
        """Records in Kafka that the archive could have read and has not committed yet; not lost."""
        end = self.broker_end if self.readable_end is None else min(self.broker_end, self.readable_end)
        return max(end - self.committed_end, 0)

    @property
    def unaccounted(self) -> int:
        """Lost offsets and items, and rows that no record of the topic explains."""
        return self.lost + self.missing_items + self.beyond


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
        """Offsets in neither table that held a record."""
        return sum(p.lost for p in self.partitions)

    @property
    def duplicates(self) -> int:
        """Rows whose offset and item are already in one of the tables."""
        return sum(p.duplicates for p in self.partitions)

    @property
    def skipped(self) -> int:
        """Offsets noted as lost by a command."""
        return sum(p.skipped for p in self.partitions)

    @property
    def gaps(self) -> int:
        """Offsets that hold no committed record."""
        return sum(p.gaps for p in self.partitions)

    @property
    def markers(self) -> int:
        """Of the gaps: offsets where Kafka holds no record at all."""
        return sum(p.markers for p in self.partitions)

    @property
    def aborted(self) -> int:
        """Of the gaps: records of aborted transactions."""
        return sum(p.aborted for p in self.partitions)

    @property
    def missing_items(self) -> int:
        """Readings missing within their record."""
        return sum(p.missing_items for p in self.partitions)

    @property
    def unaccounted(self) -> int:
        """Lost offsets and items, and rows that Kafka does not explain."""
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
        counts += f" + {self._gaps}" if self.gaps else ""
        waiting = f"; {self.lag} more wait in Kafka (lag)" if self.lag else ""
        if self.ok:
            return f"ok: {self.topic}: {counts}, every record exactly once{waiting}"
        return f"mismatch in {self.topic}: {'; '.join(self.problems)} ({counts}{waiting})"

    @property
    def _gaps(self) -> str:
        markers = [_count(self.markers, "marker")] if self.markers else []
        known = ", ".join([*markers, *([f"{self.aborted} aborted"] if self.aborted else [])])
        return f"{_count(self.gaps, 'offset')} without a record{f' ({known})' if known else ''}"

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
            "gaps",
            "markers",
            "aborted",
            "missing_items",
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
    if part.missing_items:
        more = ", ..." if len(part.missing_item_offsets) == SHOWN_RANGES else ""
        offsets = ", ".join(map(str, part.missing_item_offsets))
        items = _count(part.missing_items, "reading")
        yield f"{where}: {items} missing within records, at offset {offsets}{more}"
    if part.beyond:
        yield (
            f"{where}: {_count(part.beyond, 'row')} that Kafka does not know (its end is {part.broker_end}):"
            " the topic was deleted and created again, or this lake belongs to another cluster"
        )


def _count(n: int, what: str) -> str:
    return f"{n} {what}" if n == 1 else f"{n} {what}s"
