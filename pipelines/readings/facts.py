"""What one archive batch holds, as numbers in the driver: the figures of `audit`, and what the driver decides by."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import zip_longest
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.errors import GridwatchError
from pipelines.readings.alignment import Alignment, BatchProgress, Ranges
from pipelines.readings.recent_keys import Longs
from pipelines.readings.workers import APPENDED_STEP_MS
from pipelines.readings.writing import Chunk, Decided
from pipelines.tables import AUDIT


class WrittenDiffers(GridwatchError):
    """Workers have written something else than was decided: the batch is not committed."""


@dataclass(frozen=True)
class BatchFacts:
    """The rows of `workers.FACTS` of a batch, in order of partition and offset: about 16 bytes per reading."""

    chunks: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, facts: pa.Table) -> BatchFacts:
        """From what the first pass gave."""
        rows = facts.to_pylist()
        return cls(tuple(sorted(rows, key=lambda row: (row["partition"], row["first_offset"]))))

    def total(self, what: str) -> int:
        """Sum of records, accepted, rejected or rejected_bytes."""
        return sum(chunk[what] for chunk in self.chunks)

    @cached_property
    def keys(self) -> Longs:
        """Key of every accepted reading."""
        return self._joined("keys")

    @cached_property
    def event_ms(self) -> Longs:
        """Event time of every accepted reading, in the same order."""
        return self._joined("event_ms")

    def absent(self) -> list[str]:
        """Quantities that no accepted reading has; none without such a reading."""
        known = [set(json.loads(chunk["absent"])) for chunk in self.chunks if chunk["accepted"]]
        return sorted(set.intersection(*known)) if known else []

    def appended(self) -> tuple[Longs, Longs]:
        """Broker times (epoch ms, in steps) and the number of records of each."""
        pairs = [np.frombuffer(chunk["appended"], np.int64).reshape(2, -1) for chunk in self.chunks]
        steps, counts = np.concatenate(pairs, axis=1) if pairs else np.empty((2, 0), np.int64)
        return steps * APPENDED_STEP_MS, counts

    def progress(self, ranges: Ranges, *, is_cut: bool) -> BatchProgress:
        """What aligned time is made of."""
        highest: dict[int, int] = {}
        for chunk, event_ms in self._per_chunk(self.event_ms):
            if len(event_ms):
                partition, last = chunk["partition"], int(event_ms.max())
                highest[partition] = max(highest.get(partition, last), last)
        records = {partition: sum(chunk["records"] for chunk in mine) for partition, mine in self._by_partition(ranges)}
        return BatchProgress(ranges, is_cut, highest, records)

    def decide(self, topic: str, *, late_before_ms: int | None, resent: Longs) -> Decided:
        """For the workers that write. `resent`: rows of `keys` that were sent before, ascending."""
        by_chunk: dict[Chunk, bytes] = {}
        start = 0
        for chunk in self.chunks:
            end = start + chunk["accepted"]
            mine = resent[np.searchsorted(resent, start) : np.searchsorted(resent, end)]
            if len(mine):
                by_chunk[chunk["partition"], chunk["first_offset"]] = (mine - start).astype(np.int64).tobytes()
            start = end
        return Decided(topic, late_before_ms, by_chunk)

    def require_written(self, written: Iterable[tuple[int, int, int, int, int]]) -> None:
        """Raises WrittenDiffers unless exactly the chunks of this batch were written, each as it was decided.

        `written`: partition, first offset, readings, rejected items and checksum of each chunk.
        """
        stored = sorted(tuple(chunk) for chunk in written)
        names = ("partition", "first_offset", "accepted", "rejected", "checksum")
        decided = [tuple(chunk[name] for name in names) for chunk in self.chunks]
        for one, other in zip_longest(decided, stored):
            if one != other:
                raise WrittenDiffers(
                    f"workers wrote {other}, decided was {one} (partition, first offset, readings, rejected items,"
                    " checksum): nothing of the batch is committed, it is done again"
                )

    def audit_rows(
        self, ranges: Ranges, decided: Decided, after: Alignment, *, judged_until: Mapping[int, int]
    ) -> list[dict[str, Any]]:
        """Figures of the rows of `audit`, one per partition with a range; generation and batch are the plan's."""
        late = {
            id(chunk): 0 if decided.late_before_ms is None else int(np.sum(event_ms < decided.late_before_ms))
            for chunk, event_ms in self._per_chunk(self.event_ms)
        }
        highest = self.progress(ranges, is_cut=False).highest_ms
        rows = []
        for partition, mine in self._by_partition(ranges):
            first, end = ranges[partition]
            reasons: Counter[str] = Counter()
            for chunk in mine:
                reasons.update(json.loads(chunk["reasons"]))
            records = sum(chunk["records"] for chunk in mine)
            rows.append(
                {
                    "kafka_topic": decided.topic,
                    "kafka_partition": partition,
                    "first_offset": first,
                    "last_offset": end - 1,
                    "records_in": records,
                    "accepted": sum(chunk["accepted"] for chunk in mine),
                    "rejected": sum(chunk["rejected"] for chunk in mine),
                    "rejected_by_reason": dict(reasons),
                    "late": sum(late[id(chunk)] for chunk in mine),
                    "resent": sum(len(decided.resent_rows((partition, chunk["first_offset"]))) for chunk in mine),
                    "max_event_ts": highest.get(partition),
                    "max_kafka_ts": max((chunk["max_kafka_ms"] for chunk in mine), default=None),
                    "skipped_because": None,
                    "gaps": end - first - records,
                    "aligned_ts": after.aligned_ms,
                    "judged_until": judged_until.get(partition),
                }
            )
        return rows

    def _joined(self, name: str) -> Longs:
        return np.frombuffer(b"".join(chunk[name] for chunk in self.chunks), np.int64)

    def _per_chunk(self, values: Longs) -> Iterator[tuple[Mapping[str, Any], Longs]]:
        start = 0
        for chunk in self.chunks:
            yield chunk, values[start : start + chunk["accepted"]]
            start += chunk["accepted"]

    def _by_partition(self, ranges: Ranges) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
        for partition in sorted(p for p, (first, end) in ranges.items() if end > first):
            yield partition, [chunk for chunk in self.chunks if chunk["partition"] == partition]


def as_audit(figures: Mapping[str, Any], *, generation: str, batch_id: int) -> tuple[Any, ...]:
    """A row of `audit` in its column order; times of `figures` are epoch ms."""
    row = {**figures, "generation": generation, "batch_id": batch_id}
    for name in ("max_event_ts", "max_kafka_ts", "aligned_ts"):
        row[name] = None if row[name] is None else datetime.fromtimestamp(row[name] / 1000, UTC)
    return tuple(row[name] for name in AUDIT.column_names)
