"""Upkeep of the tables by whoever may write them: large files, no dead ones, a bounded log, retention.

Every step is repeatable and safe to die in: each is one commit of the table, or removes what no version needs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipelines.incidents.sessions import look_back
from pipelines.readings.carry_out import planned_files
from pipelines.settings import Settings
from pipelines.small_tables import moment, open_table, read_rows, table_is_there
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, PANES, READINGS, REJECTED, Table

_MANY = 8
"""So many small files of a closed partition are made one at once; fewer when the last is a day old."""
_MANY_UNPARTITIONED = 50
_DAY_S = 86400.0
_COMMIT_EVERY = timedelta(minutes=1)
"""What a long OPTIMIZE has done by then stays done when it is killed."""


@dataclass(frozen=True)
class TableUpkeep:
    """What one round did to one table, and how it stands after it. Plain values for whoever publishes them."""

    table: str
    at: float = 0.0
    """Epoch seconds at which the round ended."""
    seconds: float = 0.0
    files: int = 0
    bytes: int = 0
    version: int = 0
    """Newest version: its growth is log objects."""
    compacted_files: int = 0
    """Small files that became large ones."""
    expired_files: int = 0
    """Files of partitions older than the retention."""
    vacuumed_files: int = 0
    """Files removed that no kept version needs, those of unfinished writes included."""


_vacuumed_at: dict[str, float] = {}


@dataclass(frozen=True)
class DataFile:
    """One file of a table."""

    partition: date | None
    bytes: int
    modified_at: float
    """Epoch seconds."""


def look_after(settings: Settings, table: Table, *, thorough: bool = False, now: float | None = None) -> TableUpkeep:
    """One round over a table: retention, OPTIMIZE, VACUUM once a day, log. The caller is the table's only writer.

    OPTIMIZE takes the closed partition with the most small files, or all of them when `thorough`; never panes, of which
    the windows read each batch as one file.
    """
    began, now = time.monotonic(), time.time() if now is None else now
    done = TableUpkeep(
        table.name,
        expired_files=_expire(settings, table, now),
        compacted_files=_compact(settings, table, now, thorough=thorough),
        vacuumed_files=_vacuum(settings, table, now, thorough=thorough),
    )
    _bound_log(settings, table)
    left = open_table(settings, table)
    files = list(data_files(left, table))
    return replace(
        done, at=now, seconds=time.monotonic() - began, files=len(files), bytes=sum(file.bytes for file in files),
        version=int(left.version()),
    )  # fmt: skip


def data_files(delta: DeltaTable, table: Table) -> Iterator[DataFile]:
    """The files of the newest version."""
    rows: list[dict[str, Any]] = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
    column = f"partition.{table.partition_by[0]}" if table.partition_by else None
    for row in rows:
        yield DataFile(row[column] if column else None, row["size_bytes"], row["modification_time"] / 1000)


def worth_compacting(files: list[DataFile], *, target_bytes: int, now: float) -> list[date | None]:
    """Closed partitions with small files, those with most first; None is the whole of a table without partitions.

    A partition is closed when a later one exists: the latest is still written to.

    >>> small = [DataFile(date(2026, 3, day), 10, 0.0) for day in (1, 1, 2, 2, 2, 3, 3)]
    >>> worth_compacting(small, target_bytes=100, now=90000.0)
    [datetime.date(2026, 3, 2), datetime.date(2026, 3, 1)]
    """
    if not files:
        return []
    if all(file.partition is None for file in files):
        return [None] if sum(file.bytes < target_bytes // 2 for file in files) >= _MANY_UNPARTITIONED else []
    small: dict[date, list[DataFile]] = {}
    for file in files:
        if file.partition is not None and file.bytes < target_bytes // 2:
            small.setdefault(file.partition, []).append(file)
    latest = max(file.partition for file in files if file.partition is not None)
    worth: list[date | None] = [
        day
        for day, found in small.items()
        if day < latest
        and (len(found) >= _MANY or (len(found) > 1 and now - max(f.modified_at for f in found) > _DAY_S))
    ]
    return sorted(worth, key=lambda day: -len(small[day]) if day else 0)


def expired(files: list[DataFile], *, keep_days: int, now: float) -> list[date]:
    """Partitions whose day and whose newest file are older than the retention.

    A file is as old as its last rewriting, so a compacted partition may stay longer, never shorter.

    >>> expired([DataFile(date(2026, 3, 1), 1, 0.0), DataFile(date(2026, 3, 9), 1, 0.0)], keep_days=5,
    ...         now=datetime(2026, 3, 10, tzinfo=UTC).timestamp())
    [datetime.date(2026, 3, 1)]
    """
    oldest = datetime.fromtimestamp(now, UTC).date() - timedelta(days=keep_days)
    newest: dict[date, float] = {}
    for file in files:
        if file.partition is not None:
            newest[file.partition] = max(newest.get(file.partition, 0.0), file.modified_at)
    return sorted(day for day, at in newest.items() if day < oldest and at < now - keep_days * _DAY_S)


@dataclass(frozen=True)
class PanesFile:
    """One file of the table panes: the panes of one batch."""

    generation: str
    batch: int
    modified_at: float
    """Epoch seconds."""


def expired_panes(files: Iterable[PanesFile], *, keep_days: int, now: float) -> dict[str, int]:
    """The batch of each generation up to which all files are older than the retention.

    >>> day = 86400
    >>> expired_panes([PanesFile("g", -1, 0 * day), PanesFile("g", 0, 1 * day), PanesFile("g", 1, 9 * day),
    ...                PanesFile("h", 0, 9 * day)], keep_days=2, now=10 * day)
    {'g': 0}
    """
    old: dict[str, list[int]] = {}
    young: dict[str, int] = {}
    for file in files:
        if file.modified_at < now - keep_days * _DAY_S:
            old.setdefault(file.generation, []).append(file.batch)
        else:
            young[file.generation] = min(young.get(file.generation, file.batch), file.batch)
    reached = {name: [b for b in batches if b < young.get(name, b + 1)] for name, batches in old.items()}
    return {name: max(batches) for name, batches in reached.items() if batches}


def keep_days(settings: Settings, table: Table) -> int | None:
    """Retention of a table in days; None keeps all."""
    if table is METER_WINDOWS:
        return settings.lake.windows_retention_days
    return settings.lake.retention_days if table in (READINGS, REJECTED, ANOMALIES) else None


def _expire(settings: Settings, table: Table, now: float) -> int:
    if table is PANES:
        return _expire_panes(settings, now)
    days = keep_days(settings, table)
    if days is None:
        return 0
    delta = open_table(settings, table)
    gone = expired(list(data_files(delta, table)), keep_days=days, now=now)
    if table is ANOMALIES and (needed := _needed_since(settings, now)):
        gone = [day for day in gone if day < needed]
    if not gone:
        return 0
    listed = ", ".join(f"'{day}'" for day in gone)
    done = delta.delete(f"{table.partition_by[0]} IN ({listed})")
    return int(done["num_removed_files"])


def _expire_panes(settings: Settings, now: float) -> int:
    """Delete whole files, which the windows query passes over; a part of one would stop it."""
    delta = open_table(settings, PANES)
    rows = pa.table(delta.get_add_actions(flatten=True)).to_pylist()
    files = [PanesFile(r["min.generation"], r["max.batch_id"], r["modification_time"] / 1000) for r in rows]
    gone = expired_panes(files, keep_days=settings.lake.panes_retention_days, now=now)
    places = [f"(generation = '{name}' AND batch_id <= {batch})" for name, batch in sorted(gone.items())]
    return int(delta.delete(" OR ".join(places))["num_removed_files"]) if places else 0


def _needed_since(settings: Settings, now: float) -> date | None:
    """Day of the first anomaly that an incident may still be made of: without it the incident would get another id.

    Of incidents that are open, or ended so lately that a late anomaly may go on with them.
    """
    if not table_is_there(settings, INCIDENTS):
        return None
    yesterday = datetime.fromtimestamp(now - _DAY_S, UTC)
    where = f"status = 'open' OR last_anomaly_at >= {moment(yesterday)}"
    opened_at = pc.min(read_rows(settings, INCIDENTS, columns=["opened_at"], where=where)["opened_at"]).as_py()
    if opened_at is None:
        return None
    day: date = (opened_at - look_back(settings.session_rules, settings.detection.steps_s)).date()
    return day


def _compact(settings: Settings, table: Table, now: float, *, thorough: bool) -> int:
    if table is PANES:
        return 0
    target = settings.upkeep.target_mb << 20
    delta = open_table(settings, table)
    compacted = 0
    worth = worth_compacting(list(data_files(delta, table)), target_bytes=target, now=now)
    for day in worth if thorough else worth[:1]:
        partition = None if day is None else [(table.partition_by[0], "=", str(day))]
        done = delta.optimize.compact(
            partition_filters=partition, target_size=target, max_concurrent_tasks=1, min_commit_interval=_COMMIT_EVERY
        )
        compacted += int(done["numFilesRemoved"])
    return compacted


def _vacuum(settings: Settings, table: Table, now: float, *, thorough: bool) -> int:
    """Full: also files that no commit ever named, which a killed writer leaves.

    Files that the archive's newest plan names stay: a batch that was planned before a long downtime is still to be
    carried out. As long as one of them is old enough to go, nothing of the table goes.
    """
    if not thorough and now - _vacuumed_at.get(table.name, 0.0) < _DAY_S:
        return 0
    hours = int(settings.upkeep.vacuum_after // 3600)
    delta = open_table(settings, table)
    gone = delta.vacuum(retention_hours=hours, dry_run=True, full=True)
    planned = {_name(file.path) for file in planned_files(settings, table)} if gone else set()
    if planned & set(map(_name, gone)):
        return 0
    if gone:
        delta.vacuum(retention_hours=hours, dry_run=False, full=True)
    _vacuumed_at[table.name] = now
    return len(gone)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _bound_log(settings: Settings, table: Table) -> None:
    """The log's retention as a property of the table, which every writer follows, and what is too old removed."""
    delta = open_table(settings, table)
    wanted = f"interval {int(settings.upkeep.log_retention)} seconds"
    if delta.metadata().configuration.get("delta.logRetentionDuration") != wanted:
        delta.alter.set_table_properties({"delta.logRetentionDuration": wanted})
        delta = open_table(settings, table)
    delta.create_checkpoint()
    delta.cleanup_metadata()
