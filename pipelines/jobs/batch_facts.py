"""What one archive batch holds, as numbers in the driver: the figures of `audit`, and what was sent before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.jobs.recent_keys import Longs
from pipelines.sinks import BatchId
from pipelines.tables import AUDIT
from pipelines.transforms.readings import position, reading_key


@dataclass(frozen=True)
class BatchFacts:
    """One row a record: kafka_topic, kafka_partition, position, kafka_ms, reason, rejected_bytes (of key and value),
    event_ms, key, is_late."""

    records: pa.Table

    @classmethod
    def collect(cls, judged: DataFrame) -> BatchFacts:
        """Read a batch; the first action on it, so it fills the cache. About 60 bytes a record."""
        columns = judged.select(
            "kafka_topic",
            "kafka_partition",
            position().alias("position"),
            F.unix_millis("kafka_ts").alias("kafka_ms"),
            "reason",
            (_bytes("key") + _bytes("value")).alias("rejected_bytes"),
            F.unix_millis("event_ts").alias("event_ms"),
            reading_key().alias("key"),
            "is_late",
        )
        return cls(columns.toArrow())

    @property
    def count(self) -> int:
        """Records read."""
        return int(self.records.num_rows)

    @property
    def rejected(self) -> int:
        """Records rejected."""
        return self.count - int(self._accepted.num_rows)

    @property
    def rejected_bytes(self) -> int:
        """Size of all rejected records' keys and values."""
        return int(pc.sum(self.records["rejected_bytes"]).as_py() or 0)

    @property
    def highest_event_ms(self) -> int | None:
        """Largest accepted event time."""
        highest: int | None = pc.max(self._accepted["event_ms"]).as_py()
        return highest

    @property
    def kafka_ms(self) -> pa.ChunkedArray:
        """Broker time of every record."""
        return self.records["kafka_ms"]

    def keys(self) -> tuple[Longs, Longs, Longs]:
        """Key, event time (ms) and position of every accepted reading."""
        accepted = self._accepted
        return accepted["key"].to_numpy(), accepted["event_ms"].to_numpy(), accepted["position"].to_numpy()

    def audit_rows(self, batch: BatchId, resent: Longs) -> list[tuple[Any, ...]]:
        """Rows of the table audit, one a partition, in its column order. `resent`: positions of these readings."""
        rows = []
        for partition, records in self._by_partition():
            figures = _figures(records, int(np.sum(resent >> 48 == partition)))
            figures |= {
                "generation": batch.generation,
                "batch_id": batch.number,
                "kafka_partition": partition,
                "skipped_because": None,
                "gaps": 0,
                "aligned_ts": None,
                "judged_until": None,
            }
            rows.append(tuple(figures[name] for name in AUDIT.column_names))
        return rows

    @property
    def _accepted(self) -> pa.Table:
        return self.records.filter(pc.is_null(self.records["reason"]))

    def _by_partition(self) -> Iterator[tuple[int, pa.Table]]:
        for partition in sorted(pc.unique(self.records["kafka_partition"]).to_pylist()):
            yield partition, self.records.filter(pc.equal(self.records["kafka_partition"], partition))


def _figures(records: pa.Table, resent: int) -> dict[str, Any]:
    reasons = records["reason"].drop_null().value_counts().to_pylist()
    by_reason = {count["values"]: count["counts"] for count in reasons}
    rejected = sum(by_reason.values())
    accepted = records.filter(pc.is_null(records["reason"]))
    offsets = np.bitwise_and(records["position"].to_numpy(), (1 << 48) - 1)
    return {
        "kafka_topic": records["kafka_topic"][0].as_py(),
        "first_offset": int(offsets.min()),
        "last_offset": int(offsets.max()),
        "records_in": records.num_rows,
        "accepted": records.num_rows - rejected,
        "rejected": rejected,
        "rejected_by_reason": by_reason,
        "late": pc.sum(accepted["is_late"]).as_py() or 0,
        "resent": resent,
        "max_event_ts": _moment(pc.max(accepted["event_ms"]).as_py()),
        "max_kafka_ts": _moment(pc.max(records["kafka_ms"]).as_py()),
    }


def _moment(epoch_ms: int | None) -> datetime | None:
    """The moment of epoch milliseconds."""
    return None if epoch_ms is None else datetime.fromtimestamp(epoch_ms / 1000, UTC)


def _bytes(name: str) -> Column:
    return F.coalesce(F.length(name), F.lit(0)).cast("long")
