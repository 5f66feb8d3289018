"""A lake of real Delta tables in a temporary folder, and a stand-in for Kafka, for tests of the incidents."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.broker.records import Record
from pipelines.incidents.positions import newest_update
from pipelines.incidents.writer import IncidentsWriter
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Kafka, Settings
from pipelines.small_tables import create_tables, read_rows
from pipelines.tables import TABLES
from tests.factories import anomaly_row, utc

Row = dict[str, Any]

generation = "generation"


@dataclass
class Outbox:
    """Takes what would be sent; can fail like a broker that is gone."""

    records: list[tuple[str, str | None, Any]] = field(default_factory=list)
    fail_on: str | None = None
    let_through: int = 0
    """So many sends to `fail_on` succeed before the one that fails."""

    def send_records(self, kafka: Kafka, topic: str, records: Iterable[Record]) -> int:
        """Collect, or fail once at the topic named in `fail_on`, after `let_through` sends to it."""
        if topic == self.fail_on:
            if self.let_through == 0:
                self.fail_on = None
                raise ConnectionError("the broker is gone")
            self.let_through -= 1
        sent = [(topic, key.decode() if key else None, value and json.loads(value)) for key, value, _ in records]
        self.records += sent
        return len(sent)

    def take(self, topic: str) -> list[tuple[str | None, Any]]:
        """(key, document) sent to a topic since the last call for it."""
        taken = [(key, value) for name, key, value in self.records if name == topic]
        self.records = [record for record in self.records if record[0] != topic]
        return taken


def lake_settings(folder: Path) -> Settings:
    """Settings of an empty lake with all tables."""
    settings = Settings.model_validate(
        {"lake": {"root": str(folder / "lake")}, "pipeline": {"checkpoint": str(folder / "checkpoint")}}
    )
    create_tables(settings)
    return settings


def writer_of(settings: Settings, clock: float | None = None) -> IncidentsWriter:
    """A life that begins now; `clock` in seconds after noon."""
    moment = None if clock is None else utc(clock)
    newest, _ = newest_update(settings, generation)
    return IncidentsWriter(settings, generation, PipelineMetrics(), lambda line: None, moment, newest)


def event(values: Row) -> Row:
    """A row of the table anomalies as it comes from Kafka: `t` seconds after noon, at `offset`."""
    offset = values.pop("offset", 0)
    row = anomaly_row(values)
    placed = {"kafka_partition": 0, "kafka_offset": offset, "kafka_ts": utc(0), "event_date": row["event_ts"].date()}
    return row | placed


def stored(settings: Settings, table: str, order: str) -> list[Row]:
    """All rows of a table."""
    rows: list[Row] = read_rows(settings, TABLES[table]).to_pylist()
    return sorted(rows, key=lambda row: row[order])


def brief(row: Row) -> tuple[Any, ...]:
    """(status, severity, opened, last, closed, anomalies, alerts), times in seconds after noon."""
    seconds = (
        None if row[name] is None else (row[name] - utc(0)).total_seconds()
        for name in ("opened_at", "last_anomaly_at", "closed_at")
    )
    return (row["status"], row["severity"], *seconds, row["anomalies"], row["alerts"])
