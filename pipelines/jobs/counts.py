"""What one archive batch held, by partition: the figures of `audit`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from pipelines.sinks import BatchId
from pipelines.tables import AUDIT

_PARTITION = ("kafka_topic", "kafka_partition")


@dataclass(frozen=True)
class BatchCounts:
    """Counts by (partition, reason) of one batch; false when the batch was empty."""

    rows: tuple[Row, ...]

    def __bool__(self) -> bool:
        return bool(self.rows)

    @property
    def records_in(self) -> int:
        """Records read."""
        return sum(row["n"] for row in self.rows)

    @property
    def rejected(self) -> int:
        """Records rejected."""
        return sum(row["n"] for row in self.rows if row["reason"])

    @property
    def min_event_ts(self) -> datetime | None:
        """Smallest accepted event time."""
        return min((row["min_event_ts"] for row in self.rows if row["min_event_ts"]), default=None)

    @property
    def max_event_ts(self) -> datetime | None:
        """Largest accepted event time."""
        return _latest(self.rows, "max_event_ts")

    def audit_rows(self, batch: BatchId, resent: dict[int, int]) -> list[tuple[Any, ...]]:
        """Rows of the table audit, one a partition, in its column order. `resent`: readings by partition."""
        return [
            tuple({**_partition_figures(rows, resent), **_identity(batch)}[name] for name in AUDIT.column_names)
            for rows in self._by_partition()
        ]

    def is_of_batch(self) -> Column:
        """Whether a row of `readings` has coordinates of this batch, or later ones: true only in a replay."""
        own = F.lit(False)
        for rows in self._by_partition():
            first = min(row["first_offset"] for row in rows)
            topic, partition = (rows[0][name] for name in _PARTITION)
            same = (F.col("kafka_topic") == topic) & (F.col("kafka_partition") == partition)
            own = own | (same & (F.col("kafka_offset") >= first))
        return own

    def _by_partition(self) -> Iterator[list[Row]]:
        def key(row: Row) -> tuple[str, int]:
            return row["kafka_topic"], row["kafka_partition"]

        for _, rows in groupby(sorted(self.rows, key=key), key):
            yield list(rows)


def count_batch(judged: DataFrame) -> BatchCounts:
    """Count a batch by partition and reason; the first action on it, so it fills the cache."""
    grouped = judged.groupBy(*_PARTITION, "reason").agg(
        F.count(F.lit(1)).alias("n"),
        F.count_if("is_late").alias("late"),
        F.min("kafka_offset").alias("first_offset"),
        F.max("kafka_offset").alias("last_offset"),
        F.min("event_ts").alias("min_event_ts"),
        F.max("event_ts").alias("max_event_ts"),
        F.max("kafka_ts").alias("max_kafka_ts"),
    )
    return BatchCounts(tuple(grouped.collect()))


def _identity(batch: BatchId) -> dict[str, Any]:
    return {"generation": batch.generation, "batch_id": batch.number}


def _partition_figures(rows: list[Row], resent: dict[int, int]) -> dict[str, Any]:
    by_reason = {row["reason"]: row["n"] for row in rows if row["reason"]}
    accepted = sum(row["n"] for row in rows if not row["reason"])
    return {
        "kafka_topic": rows[0]["kafka_topic"],
        "kafka_partition": rows[0]["kafka_partition"],
        "first_offset": min(row["first_offset"] for row in rows),
        "last_offset": max(row["last_offset"] for row in rows),
        "records_in": accepted + sum(by_reason.values()),
        "accepted": accepted,
        "rejected": sum(by_reason.values()),
        "rejected_by_reason": by_reason,
        "late": sum(row["late"] for row in rows if not row["reason"]),
        "resent": resent.get(rows[0]["kafka_partition"], 0),
        "max_event_ts": _latest(rows, "max_event_ts"),
        "max_kafka_ts": _latest(rows, "max_kafka_ts"),
    }


def _latest(rows: Any, name: str) -> datetime | None:
    return max((row[name] for row in rows if row[name]), default=None)
