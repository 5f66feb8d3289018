"""Where archive and alerts begin in the topic of readings: found by the first start, and noted with the tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.tables import audited, note_start, noted_start
from pipelines.settings import Settings
from pipelines.topics import offsets_at, topic_offsets

Say = Callable[[str], None]


def settle_start(settings: Settings, say: Say) -> dict[int, int]:
    """The noted offsets by partition; finds and notes them when nobody has. Kafka and the tables must be there.

    On a lake without batches `pipeline.starting` becomes offsets. On one of an earlier version the alerts begin where
    the anomalies of readings were surely published, and nothing changes for the archive. The caller holds the lock.
    """
    noted = noted_start(settings)
    if noted is not None:
        return noted
    topic = settings.kafka.topics.readings
    columns = ("generation", "batch_id", "kafka_topic", "kafka_partition", "first_offset", "last_offset")
    rows = [row for row in audited(settings, *columns) if row["kafka_topic"] == topic]
    found = _published(settings, rows) if rows else starting_offsets(settings)
    note_start(settings, found)
    if rows:
        listed = ", ".join(f"{partition}:{offset}" for partition, offset in sorted(found.items()))
        say(f"the lake is of an earlier version: alerts begin at {listed} (partition:offset)")
    return found


def starting_offsets(settings: Settings) -> dict[int, int]:
    """`pipeline.starting` as the offset of each partition that is there now."""
    kafka, starting = settings.kafka, settings.pipeline.starting
    there = topic_offsets(kafka, kafka.topics.readings)
    if starting in ("earliest", "latest"):
        return {p: first if starting == "earliest" else end for p, (first, end) in there.items()}
    at_ms = int(datetime.fromisoformat(starting).timestamp() * 1000)
    found = offsets_at(kafka, kafka.topics.readings, at_ms)
    return {partition: found.get(partition, end) for partition, (_, end) in there.items()}


def published_until(audit: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    """Up to where an archive of an earlier version has surely published the anomalies of readings.

    That is each partition's last_offset + 1, but the first offset of the newest batch: `audit` was written before the
    anomalies were sent, and the process may have died in between.

    >>> old = {"kafka_partition": 0, "first_offset": 0, "last_offset": 9, "batch_id": 0}
    >>> new = {"kafka_partition": 0, "first_offset": 10, "last_offset": 14, "batch_id": 1}
    >>> published_until([old, old | {"kafka_partition": 1}, new])
    {0: 10, 1: 10}
    """
    rows = sorted(audit, key=lambda row: row["last_offset"])
    newest: dict[str | None, int] = {}
    for row in rows:
        newest[row.get("generation")] = max(row["batch_id"], newest.get(row.get("generation"), 0))
    until: dict[int, int] = {}
    for row in rows:
        is_newest = row["batch_id"] == newest[row.get("generation")]
        until[row["kafka_partition"]] = row["first_offset"] if is_newest else row["last_offset"] + 1
    return until


def _published(settings: Settings, audit: list[dict[str, Any]]) -> dict[int, int]:
    """What an earlier version has published: its archive, or its real-time job, noted beside the checkpoint."""
    files = CheckpointFiles(settings)
    changes = {int(name.removesuffix(".json")) for name in files.names("alerts-mode") if name[:-5].isdecimal()}
    text = files.text(f"alerts-mode/{max(changes)}.json") if changes else None
    said: dict[str, Any] = json.loads(text) if text else {"mode": "microbatch"}
    if said["mode"] != "realtime":
        return published_until(audit)
    job = Batches.read(files, f"alerts-{max(changes)}")
    done = job.end_of(max(job.done)) if job.done else {}
    handed_over = {int(partition): offset for partition, offset in said["published"].items()}
    return handed_over | done.get(settings.kafka.topics.readings, {})
