"""A lake and a checkpoint as e759490 left them: tables without the columns of today, a record of format 2."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import RUN_RECORD
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows, arrow_schema, create_tables
from pipelines.tables import ANOMALIES, AUDIT, PANES, READINGS, REJECTED, TABLES, Table
from tests.unit.identity.lakes import Lake, audit, reading

NEW_COLUMNS = {
    READINGS: ("kafka_item",),
    REJECTED: ("kafka_item",),
    AUDIT: ("gaps", "aligned_ts", "judged_until"),
    ANOMALIES: ("source_item",),
}
HANDED_OVER = {"mode": "realtime", "published": {"0": 20}}


def without_new_columns(table: Table) -> Table:
    """The table as it was."""
    new = NEW_COLUMNS.get(table, ())
    return replace(table, columns=tuple(column for column in table.columns if column.name not in new))


def make_older_lake(settings: Settings, topics: dict[str, str], *, batches: int = 3) -> Lake:
    """Batches of ten records of partition 0 each, and one more that was planned and stored but not counted."""
    create_tables(settings, [without_new_columns(table) for table in TABLES.values() if table is not PANES])
    lake = Lake(settings)
    for number in range(batches + 1):
        batch = BatchId(lake.record.generation, "archive", number)
        offsets = range(10 * number, 10 * number + 10)
        topic = settings.kafka.topics.readings
        lake.log("archive", "offsets", number, {topic: {"0": offsets[-1] + 1}})
        _append(settings, READINGS, [reading(offset, kafka_topic=topic) for offset in offsets])
        if number < batches:
            _append(settings, AUDIT, [audit(batch) | {"kafka_topic": topic}])
            lake.log("archive", "commits", number, {"nextBatchWatermarkMs": 0})
    lake.log("windows", "offsets", 0, {"reservoirVersion": 1})
    write_older_record(lake, topics)
    CheckpointFiles(settings).write("alerts-mode/1.json", json.dumps(HANDED_OVER))
    return lake


def write_older_record(lake: Lake, topics: dict[str, str]) -> None:
    """The record as it was: format 2, and no version of panes."""
    lake.record = replace(lake.record, topics=topics, shape=lake.facts().shape, tables=lake.facts().tables)
    document = json.loads(lake.record.to_json()) | {"format": 2}
    document["start"] = {"offsets": None, "windows_after": None, "readings_since": None, "readings_version": None,
                         "resend": {}}  # fmt: skip
    lake.files.write(RUN_RECORD, json.dumps(document))


def _append(settings: Settings, table: Table, rows: list[dict[str, Any]]) -> None:
    older = without_new_columns(table)
    append_rows(pa.Table.from_pylist(rows, schema=arrow_schema(older)), settings, older)
