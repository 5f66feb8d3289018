"""The record of a run, one JSON file beside its checkpoints: what they belong to, and where they began."""

from __future__ import annotations

import hashlib
import json
import platform
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

from pipelines.durations import format_seconds
from pipelines.errors import DataRefused
from pipelines.identity.files import CheckpointFiles
from pipelines.local.spark_kit import spark_defaults
from pipelines.settings import Settings

RUN_RECORD = "gridwatch-run.json"
FORMAT = 3
"""Version of the record; 1 held nothing but the generation, with 2 the windows were made from the table readings."""

REBUILD = frozenset({"detection.window", "detection.slide", "detection.watermark"})
"""Query-shaping settings whose change makes earlier rows of meter_windows unfit to go on from."""

_SPARK_SHAPE = (
    "spark.sql.shuffle.partitions",
    "spark.sql.streaming.stateStore.providerClass",
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled",
    "spark.sql.streaming.stateStore.checkpointFormatVersion",
)


@dataclass(frozen=True)
class Start:
    """Where a generation begins that goes on from existing tables; all empty for the very first one."""

    offsets: dict[int, int] | None = None
    """Next offset of each partition of the readings; partitions that are not named begin at their start."""
    windows_after: datetime | None = None
    """Window ends up to this one stand in meter_windows already."""
    readings_since: datetime | None = None
    """Event time of the first reading that a window after that may need: panes are filled from it on."""
    panes_version: int | None = 0
    """Version of the table panes that the windows begin to read at; None in a record of before there were panes."""
    resend: dict[int, int] = field(default_factory=dict)
    """From these offsets on anomalies and dead letters of stored records are sent again: a crash may have kept
    them back."""


@dataclass(frozen=True)
class RunRecord:
    """What checkpoints belong to. Empty maps are those of a record of format 1, to be filled in."""

    generation: str
    number: int = 1
    topics: Mapping[str, str] = field(default_factory=dict)
    """Kafka's id of each topic that is read."""
    tables: Mapping[str, str] = field(default_factory=dict)
    """Delta's id of each table."""
    shape: Mapping[str, str] = field(default_factory=dict)
    """Query-shaping settings."""
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    start: Start = Start()

    @property
    def shape_hash(self) -> str:
        """SHA-256 of the query-shaping settings."""
        return hashlib.sha256(json.dumps(dict(self.shape), sort_keys=True).encode()).hexdigest()

    def folder(self, query: str) -> str:
        """Checkpoint folder of a query, relative to `pipeline.checkpoint`: each generation has its own."""
        return query if self.number == 1 else f"generation-{self.number}/{query}"

    def to_json(self) -> str:
        """The text of the file."""
        document = {"format": FORMAT, **asdict(self), "shape_hash": self.shape_hash}
        return json.dumps(document, indent=1, default=lambda at: at.isoformat())


def new_record(*, number: int = 1, start: Start | None = None) -> RunRecord:
    """A record of a new generation."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return RunRecord(uuid.uuid4().hex, number, created=now, start=start or Start())


def read_record(files: CheckpointFiles) -> RunRecord | None:
    """The record, or None without one. Raises DataRefused when it cannot be understood."""
    text = files.text(RUN_RECORD)
    if text is None:
        return None
    try:
        return _parse(json.loads(text))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataRefused(
            f"{files.root}/{RUN_RECORD} is damaged: restore it from the backup, or go on with `gridwatch checkpoint"
            " new-generation --from-offsets tables`"
        ) from None


def write_record(files: CheckpointFiles, record: RunRecord) -> None:
    """Write or replace the record."""
    files.write(RUN_RECORD, record.to_json())


def shape_of(settings: Settings) -> dict[str, str]:
    """Query-shaping settings by name, as text: what the checkpoint's state and meaning depend on."""
    detection, topics = settings.detection, settings.kafka.topics
    defaults = spark_defaults()
    return {
        "detection.window": format_seconds(detection.window_s),
        "detection.slide": format_seconds(detection.slide_s),
        "detection.watermark": format_seconds(detection.watermark),
        "kafka.topics.readings": topics.readings,
        "kafka.topics.anomalies": topics.anomalies,
        "kafka.topics.ticks": topics.ticks,
        "kafka.topics.actions": topics.actions,
        "pipeline.starting": settings.pipeline.starting,
        **{name: defaults.get(name, "") for name in _SPARK_SHAPE},
    }


def versions_now() -> dict[str, str]:
    """Versions of what writes checkpoints and tables."""
    names = ("gridwatch", "pyspark", "delta-spark", "deltalake")
    return {name: version(name) for name in names} | {"python": platform.python_version()}


def _parse(document: Mapping[str, Any]) -> RunRecord:
    if int(document.get("format", 1)) > FORMAT:
        raise DataRefused(
            f"{RUN_RECORD} has format {document['format']}, this gridwatch knows {FORMAT}: it was written by a newer"
            " version; start that one"
        )
    start = document.get("start") or {}
    return RunRecord(
        generation=str(document["generation"]),
        number=int(document.get("number", 1)),
        topics=dict(document.get("topics") or {}),
        tables=dict(document.get("tables") or {}),
        shape=dict(document.get("shape") or {}),
        versions=dict(document.get("versions") or {}),
        created=str(document.get("created", "")),
        start=Start(
            offsets=None if start.get("offsets") is None else _numbers(start["offsets"]),
            windows_after=_moment(start.get("windows_after")),
            readings_since=_moment(start.get("readings_since")),
            panes_version=start.get("panes_version"),
            resend=_numbers(start.get("resend") or {}),
        ),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _numbers(by_partition: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): int(offset) for partition, offset in by_partition.items()}
