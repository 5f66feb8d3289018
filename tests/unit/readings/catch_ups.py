"""Catch-ups after downtimes, simulated: a topic, Spark's source, the archive's aligned time, Spark's watermark.

The archive part calls the pipeline's own functions; the rest is a small model of what is around them. Times are whole
numbers: here one of them is a millisecond, so that the functions take them as they are.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.readings.alignment import Alignment, BatchProgress, Ranges, is_cut

END = 400
"""Until then readings are sent."""


@dataclass(frozen=True)
class Record:
    """One offset of a partition: a reading, or a gap (a marker, an aborted record) without an event time."""

    sent: int
    event: int | None
    meter: int = 0


@dataclass(frozen=True)
class Row:
    """A partial pane: readings of a meter in a slide."""

    meter: int
    pane: int
    last: int
    n: int


@dataclass(frozen=True)
class Rules:
    """The protocol, and its parts that a test may take away."""

    is_cut: Callable[..., bool] = is_cut
    holds_back: bool = True
    files_per_batch: int = 1
    max_held: int | None = None


PROTOCOL = Rules()


@dataclass(frozen=True)
class Setting:
    """What differs from catch-up to catch-up."""

    watermark: int
    slide: int
    limit: int
    logs: list[list[Record]]
    step: int
    downtimes: list[tuple[int, int]]


def random_setting(seed: int) -> Setting:
    """A topic of jittery, sometimes late readings; some partitions are empty, fall idle, or begin with gaps."""
    rng = random.Random(seed)
    partitions, watermark = rng.randint(1, 4), rng.choice([5, 10, 30])
    logs: list[list[Record]] = [[] for _ in range(partitions)]
    for meter in range(rng.randint(1, 8)):
        log = rng.choice(logs)
        for sent in range(END):
            if rng.random() < 0.8:
                delay = rng.randint(-3, 3 * watermark) if rng.random() < 0.02 else rng.choice([0, 0, 0, 1, 2])
                log.append(Record(sent, sent - delay, meter))
    for log in logs:
        log.sort(key=lambda record: record.sent)
    if rng.random() < 0.3:
        rng.choice(logs).clear()
    if rng.random() < 0.4:
        idle, since = rng.choice(logs), rng.randrange(END)
        idle[:] = [record for record in idle if record.sent < since]
    if rng.random() < 0.3:
        rng.choice(logs)[:0] = [Record(0, None)] * rng.randint(1, 300)
    starts = [rng.randrange(END) for _ in range(rng.choice([0, 1, 2]))]
    return Setting(
        watermark=watermark,
        slide=rng.choice([10, 20]),
        limit=rng.choice([3 * partitions, 20, 50, 200, 10**6]),
        logs=logs,
        step=rng.choice([1, 3, 7]),
        downtimes=[(start, start + rng.randint(10, 200)) for start in starts],
    )


@dataclass
class WindowsQuery:
    """Spark: a row whose pane has ended before the watermark is dropped; the watermark moves between batches."""

    setting: Setting
    watermark: float = -math.inf
    newest: float = -math.inf
    counted: int = 0
    dropped: int = 0

    def read(self, files: list[list[Row]]) -> None:
        """One micro-batch over whole files."""
        for row in (row for file in files for row in file):
            if (row.last // self.setting.slide + 1) * self.setting.slide <= self.watermark:
                self.dropped += row.n
            else:
                self.counted += row.n
                self.newest = max(self.newest, row.last)
        self.watermark = max(self.watermark, self.newest - self.setting.watermark)


@dataclass
class Archive:
    """The archive's memory, and what its batches left behind."""

    setting: Setting
    rules: Rules
    state: Alignment = field(default_factory=Alignment)
    held: list[Row] = field(default_factory=list)
    most_held: int = 0
    late: list[Record] = field(default_factory=list)
    audit: list[dict[str, Any]] = field(default_factory=list)

    def restart(self) -> None:
        """A new process knows what the table audit says; held panes are those that the newest plan names."""
        self.state = Alignment.restored(self.audit)

    def read(self, ranges: Ranges, ends: dict[int, int], *, limit: int | None) -> list[list[Row]]:
        """One batch: its files of released panes. `limit`: None for a range that an earlier run has planned."""
        records = {p: self.setting.logs[p][first:end] for p, (first, end) in ranges.items()}
        readings = {p: [r for r in found if r.event is not None] for p, found in records.items()}
        horizon = self.state.late_before_ms(self.setting.watermark / 1000)
        in_time = []
        for reading in (r for found in readings.values() for r in found):
            is_late = horizon is not None and reading.event < horizon
            (self.late if is_late else in_time).append(reading)
        rows = [*self.held, *self._panes(in_time)]
        progress = BatchProgress(
            ranges,
            self.rules.is_cut(ranges, limit=limit, ends=ends),
            {p: max(r.event for r in found) for p, found in readings.items() if found},
            {p: len(found) for p, found in readings.items()},
        )
        self.state = self.state.after(
            progress, max_held=self.rules.max_held, held_after=lambda at: len(self._later(rows, at))
        )
        for p in ranges:
            highest, aligned = progress.highest_ms.get(p), self.state.aligned_ms
            times = {"max_event_ts": _moment(highest), "aligned_ts": _moment(aligned)}
            self.audit.append({"kafka_partition": p, "gaps": 0, **times})
        self.held = self._later(rows, self.state.aligned_ms) if self.rules.holds_back else []
        self.most_held = max(self.most_held, len(self.held))
        released = [row for row in rows if row not in self.held]
        count = self.rules.files_per_batch
        return [file for file in (released[part::count] for part in range(count)) if file]

    def _panes(self, readings: list[Record]) -> list[Row]:
        found: dict[tuple[int, int], Row] = {}
        for reading in readings:
            key = reading.meter, reading.event // self.setting.slide
            row = found.get(key, Row(*key, reading.event, 0))
            found[key] = replace(row, last=max(row.last, reading.event), n=row.n + 1)
        return list(found.values())

    @staticmethod
    def _later(rows: list[Row], at: int | None) -> list[Row]:
        return [row for row in rows if at is None or row.last > at]


def catch_up(seed: int, rules: Rules = PROTOCOL, setting: Setting | None = None) -> Counter[str]:
    """One catch-up, with restarts that change the limit of a batch; what came of its readings, by kind."""
    setting, rng = setting or random_setting(seed), random.Random(-seed - 1)
    limit = setting.limit
    archive, windows = Archive(setting, rules), WindowsQuery(setting)
    positions = dict.fromkeys(range(len(setting.logs)), 0)
    logs = [([record.sent for record in log], log) for log in setting.logs]
    files: list[list[Row]] = []
    clock = 0
    while clock < END or any(positions[p] < len(log) for p, log in enumerate(setting.logs)):
        clock += setting.step
        if clock < END and any(start <= clock < stop for start, stop in setting.downtimes):
            continue
        ends = dict(enumerate(len(log) if clock >= END else bisect_right(sent, clock) for sent, log in logs))
        ranges = spark_takes(positions, ends, limit)
        if any(end > first for first, end in ranges.values()):
            is_planned_before = rng.random() < 0.05
            files += archive.read(ranges, ends, limit=None if is_planned_before else limit)
            positions = {p: end for p, (_, end) in ranges.items()}
            if is_planned_before:
                archive.restart()
                limit = rng.choice([setting.limit, 2 * setting.limit, 30])
        while files and rng.random() < 0.7:
            taken = rng.choice([1, 2, 1000])
            windows.read(files[:taken])
            files = files[taken:]
    windows.read(files)
    return Counter({
        "in time, judged late": sum(was_in_time(setting, reading) for reading in archive.late),
        "dropped by Spark": windows.dropped,
        "held at the end": sum(row.n for row in archive.held),
        "counted": windows.counted,
        "most held": archive.most_held,
    })  # fmt: skip


def spark_takes(positions: dict[int, int], ends: dict[int, int], limit: int) -> dict[int, tuple[int, int]]:
    """Spark's own rule: each partition's part of the limit by its backlog, at least one offset."""
    waiting = {p: ends[p] - positions[p] for p in positions}
    total = sum(waiting.values())
    if total <= limit:
        return {p: (positions[p], ends[p]) for p in positions}
    parts = {p: limit * n / total for p, n in waiting.items()}
    taken = {p: min(waiting[p], math.ceil(part) if part < 1 else math.floor(part)) for p, part in parts.items()}
    return {p: (positions[p], positions[p] + taken[p]) for p in positions}


def _moment(epoch_ms: int | None) -> datetime | None:
    return None if epoch_ms is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=epoch_ms)


def was_in_time(setting: Setting, reading: Record) -> bool:
    """Whether nothing in the topic was newer than the reading by more than the watermark when it came in."""
    before = (r.event for log in setting.logs for r in log if r.event is not None and r.sent <= reading.sent)
    return reading.event >= max(before) - setting.watermark
