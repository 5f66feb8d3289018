"""A lake of real Delta tables and a checkpoint as Spark leaves one, without Spark."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipelines.identity.check import Facts
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import RunRecord, new_record, shape_of, write_record
from pipelines.identity.tables import claim, owner_of, table_ids
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables
from pipelines.tables import AUDIT, METER_WINDOWS, READINGS, REJECTED, Table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
TOPICS = {"sensor-readings": "topic-1", "anomalies": "topic-2", "window-ticks": "topic-3"}


def settings_in(folder: Path, **more: Any) -> Settings:
    """Settings whose lake and checkpoint lie in a folder."""
    places = {"lake": {"root": str(folder / "lake")}, "pipeline": {"checkpoint": str(folder / "checkpoint")}}
    return Settings.model_validate(places | more)


@dataclass
class Lake:
    """What an earlier run has left: `batches` archive batches of ten records of partition 0 each, all readings."""

    settings: Settings
    record: RunRecord = field(default_factory=new_record)
    ends: dict[str, dict[int, tuple[int, int]]] = field(default_factory=dict)

    @property
    def files(self) -> CheckpointFiles:
        return CheckpointFiles(self.settings)

    @property
    def folder(self) -> Path:
        return Path(self.settings.pipeline.checkpoint)

    def make(self, batches: int = 3) -> Lake:
        """Tables, checkpoint and record; Kafka holds ten records more."""
        create_tables(self.settings)
        for number in range(batches):
            self.archive(number)
        claim(self.settings, self.record.generation)
        facts = self.facts()
        self.record = RunRecord(
            self.record.generation, topics=facts.topics, tables=facts.tables, shape=facts.shape, start=self.record.start
        )
        write_record(self.files, self.record)
        self.ends = {"sensor-readings": {0: (0, 10 * batches + 10)}}
        return self

    def archive(self, number: int, *, until: str = "commit") -> None:
        """One batch of the archive, up to and with a step: offsets, readings, audit or commit."""
        steps = ("offsets", "readings", "audit", "commit").index(until)
        batch = BatchId(self.record.generation, "archive", number)
        self.log("archive", "offsets", number, {"sensor-readings": {"0": 10 * number + 10}})
        if steps >= 1:
            self.add(READINGS, [reading(offset) for offset in range(10 * number, 10 * number + 10)], batch)
        if steps >= 2:
            self.add(AUDIT, [audit(batch)], batch)
        if steps >= 3:
            self.log("archive", "commits", number, {"nextBatchWatermarkMs": 0})

    def add(self, table: Table, rows: list[dict[str, Any]], batch: BatchId) -> None:
        """Append rows; columns that are not named are null."""
        names = table.column_names
        tuples = [tuple(row.get(name) for name in names) for row in rows]
        append_rows_once(as_arrow(tuples, table), self.settings, table, batch)

    def window(self, end: datetime, number: int = 0) -> None:
        """One row of meter_windows."""
        row = {
            "meter_id": "m",
            "window_end": end,
            "window_start": end - timedelta(minutes=5),
            "window_date": end.date(),
        }
        self.add(METER_WINDOWS, [row], BatchId(self.record.generation, "windows", number))

    def log(self, query: str, kind: str, number: int, last: dict[str, Any]) -> None:
        """A file of Spark's log."""
        folder = self.folder / query
        (folder / kind).mkdir(parents=True, exist_ok=True)
        (folder / "metadata").write_text('{"id":"1"}')
        (folder / kind / str(number)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{json.dumps(last)}')

    def facts(self, **changes: Any) -> Facts:
        """What there is now, with Kafka's part as the test wants it."""
        now = {
            "topics": TOPICS,
            "tables": table_ids(self.settings),
            "shape": shape_of(self.settings),
            "owner": owner_of(self.settings),
            "there": {name: self.ends.get(name, {}) for name in TOPICS},
        }
        return Facts(**(now | changes))


def reading(offset: int, **more: Any) -> dict[str, Any]:
    """A row of readings or rejected; event time one second an offset."""
    at = NOON + timedelta(seconds=offset)
    row = {
        "meter_id": "m", "event_ts": at, "voltage_v": 230.0, "is_late": False, "is_resent": False,
        "kafka_topic": "sensor-readings", "kafka_partition": 0, "kafka_offset": offset, "kafka_ts": at,
        "event_date": at.date(), "kafka_date": at.date(),
    }  # fmt: skip
    return row | more


def audit(batch: BatchId, *, records: int = 10) -> dict[str, Any]:
    """The row of a batch of ten."""
    first = 10 * batch.number
    at = NOON + timedelta(seconds=first + 9)
    return {
        "generation": batch.generation, "batch_id": batch.number, "kafka_topic": "sensor-readings",
        "kafka_partition": 0, "first_offset": first, "last_offset": first + 9, "records_in": records,
        "accepted": records, "rejected": 0, "rejected_by_reason": {}, "late": 0, "resent": 0, "max_event_ts": at,
        "max_kafka_ts": at,
    }  # fmt: skip


__all__ = ["NOON", "REJECTED", "TOPICS", "Lake", "audit", "reading", "settings_in"]
