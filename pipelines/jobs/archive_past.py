"""What the archive knows of its earlier batches: enough to say whether a reading is late or was sent before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column
from pyspark.sql import functions as F

from pipelines.jobs.batch_facts import BatchFacts
from pipelines.jobs.context import Run
from pipelines.jobs.recent_keys import RecentKeys, whole_minute
from pipelines.sinks import BatchId
from pipelines.small_tables import read_rows
from pipelines.tables import AUDIT
from pipelines.transforms.readings import reading_key


@dataclass
class Past:
    """Largest accepted event time (epoch ms) and keys of the readings within the horizon before it."""

    highest_ms: int | None
    keys: RecentKeys
    horizon_ms: int

    def take_in(self, facts: BatchFacts) -> None:
        """Remember a batch once it is written."""
        keys, event_ms, _ = facts.keys()
        self.keys.add(keys, event_ms)
        known = [ms for ms in (self.highest_ms, facts.highest_event_ms) if ms is not None]
        self.highest_ms = max(known, default=None)
        if self.highest_ms is not None:
            self.keys.forget_before(self.highest_ms - self.horizon_ms)


def recall(run: Run, batch: BatchId) -> Past:
    """The past of a batch, from the tables: what batches before it have written, and nothing it wrote itself."""
    horizon_ms = int(run.settings.resent_horizon_s * 1000)
    columns = ["generation", "batch_id", "kafka_topic", "kafka_partition", "last_offset", "max_event_ts"]
    earlier = [
        row
        for row in read_rows(run.settings, AUDIT, columns=columns).to_pylist()
        if (row["generation"], row["batch_id"]) != (batch.generation, batch.number)
    ]
    moments = [row["max_event_ts"].timestamp() for row in earlier if row["max_event_ts"]]
    past = Past(round(max(moments) * 1000) if moments else None, RecentKeys(), horizon_ms)
    if past.highest_ms is not None:
        _remember_readings(run, past, whole_minute(past.highest_ms - horizon_ms), _is_counted(earlier))
    return past


def _remember_readings(run: Run, past: Past, since_ms: int, is_counted: Column) -> None:
    since = F.timestamp_millis(F.lit(since_ms))
    in_reach = (F.col("event_date") >= since.cast("date")) & (F.col("event_ts") >= since)
    recent = run.table("readings").where(in_reach & is_counted)
    found = recent.select(reading_key().alias("key"), F.unix_millis("event_ts").alias("event_ms")).toArrow()
    past.keys.add(found["key"].to_numpy(), found["event_ms"].to_numpy())


def _is_counted(audit: list[dict[str, Any]]) -> Column:
    """Whether a reading lies within the offsets of the given batches."""
    last: dict[tuple[str, int], int] = {}
    for row in audit:
        partition = row["kafka_topic"], row["kafka_partition"]
        last[partition] = max(last.get(partition, -1), row["last_offset"])
    counted = F.lit(False)
    for (topic, number), offset in last.items():
        same = (F.col("kafka_topic") == topic) & (F.col("kafka_partition") == number)
        counted = counted | (same & (F.col("kafka_offset") <= offset))
    return counted
