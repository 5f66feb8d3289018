"""A new generation: new checkpoints that go on from the tables, for when the old ones are lost or do not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from pipelines.errors import DataRefused, SettingsError
from pipelines.identity.check import WRITTEN, changed_shape, complete, gather
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.past_rows import count_ahead, delete_ahead, empty_table, first_unaudited
from pipelines.identity.recomputed import what_to_recompute
from pipelines.identity.record import REBUILD, RunRecord, Start, new_record, read_record, write_record
from pipelines.identity.tables import add_columns, audited, audited_ends, claim
from pipelines.readings.carry_out import carry_out_open_plan
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import (
    append_rows_once,
    as_arrow,
    create_tables,
    highest_value,
    read_rows,
    table_version,
)
from pipelines.table_features import require_known_features
from pipelines.tables import AUDIT, BASELINES, METER_WINDOWS, PANES, READINGS, REJECTED
from pipelines.topics import topic_offsets

Say = Callable[[str], None]
Offsets = Mapping[int, tuple[int, int]]

DERIVED = (METER_WINDOWS, BASELINES)
"""Tables that the windows compute from readings alone."""

TABLES_END = "tables"
"""Value of --from-offsets: go on where the tables end."""


@dataclass(frozen=True)
class SkippedRange:
    """Offsets `first` to `last`, both included, of a partition that nobody will read."""

    partition: int
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> SkippedRange:
        """From `partition:first-last`. Raises SettingsError.

        >>> SkippedRange.parse("0:100-199")
        SkippedRange(partition=0, first=100, last=199)
        """
        partition, _, rest = text.partition(":")
        first, _, last = rest.partition("-")
        if not (partition.isdecimal() and first.isdecimal() and last.isdecimal()) or int(last) < int(first):
            raise SettingsError(f"{text}: give a range as partition:first-last, for example 0:100-199")
        return cls(int(partition), int(first), int(last))


def parse_ranges(texts: Sequence[str]) -> list[SkippedRange]:
    """From arguments `partition:first-last`. Raises SettingsError for one that is none, and for two that overlap.

    >>> parse_ranges(["1:5-9", "0:0-4"])
    [SkippedRange(partition=1, first=5, last=9), SkippedRange(partition=0, first=0, last=4)]
    """
    ranges = [SkippedRange.parse(text) for text in texts]
    ordered = sorted(zip(ranges, texts, strict=True), key=lambda one: (one[0].partition, one[0].first))
    for (one, said), (other, also) in pairwise(ordered):
        if one.partition == other.partition and other.first <= one.last:
            raise SettingsError(f"{said} and {also} overlap: name each offset once")
    return ranges


def parse_offsets(text: str) -> dict[int, int]:
    """From `partition:offset,...`; nothing for TABLES_END. Raises SettingsError.

    >>> parse_offsets("0:500,1:700"), parse_offsets("tables")
    ({0: 500, 1: 700}, {})
    """
    if text == TABLES_END:
        return {}
    pairs = [part.strip().partition(":") for part in text.split(",")]
    if not all(partition.isdecimal() and offset.isdecimal() for partition, _, offset in pairs):
        raise SettingsError(f"--from-offsets {text}: give {TABLES_END}, or partition:offset,... such as 0:500,1:700")
    found = {int(partition): int(offset) for partition, _, offset in pairs}
    if len(found) < len(pairs):
        raise SettingsError(f"--from-offsets {text}: name each partition once")
    return found


def skip_ranges(settings: Settings, ranges: Sequence[SkippedRange], *, why: str, say: Say) -> RunRecord:
    """Note in audit that offsets are lost, and begin a generation behind them. The caller holds the lock.

    Raises DataRefused when Kafka still has one of them, they do not follow what is stored, or other topics' are.
    """
    _prepare(settings, rebuild=False, say=say)
    there, stored = topic_offsets(settings.kafka, settings.kafka.topics.readings), audited_ends(settings)
    behind = dict(stored)
    for lost in ranges:
        if lost.partition not in there:
            raise SettingsError(f"partition {lost.partition}: the topic has {', '.join(map(str, sorted(there)))}")
        if lost.last >= there[lost.partition][0]:
            raise DataRefused(
                f"partition {lost.partition}: Kafka still has offset {max(lost.first, there[lost.partition][0])}"
                " and what"
                f" follows; only what is gone can be skipped, at most up to {there[lost.partition][0] - 1}"
            )
        if lost.first != stored.get(lost.partition, lost.first):
            raise DataRefused(
                f"partition {lost.partition}: the tables end at offset {stored[lost.partition]}, so the range"
                " must begin"
                f" there, not at {lost.first}"
            )
        behind[lost.partition] = lost.last + 1
    return _begin(settings, behind, there, ranges, why=why, rebuild=False, say=say)


def new_generation(
    settings: Settings, begin: Mapping[int, int], *, rebuild: bool, say: Say, why: str = "jumped over by new-generation"
) -> RunRecord:
    """Begin a generation at the end of the tables, or at given offsets of partitions behind it, noted in audit.

    With `rebuild` meter_windows and baselines are emptied and computed again from readings. The caller holds the lock.
    Raises DataRefused when a record would be stored twice or is gone from Kafka.
    """
    _prepare(settings, rebuild=rebuild, say=say)
    there, stored = topic_offsets(settings.kafka, settings.kafka.topics.readings), audited_ends(settings)
    chosen = dict(stored)
    jumped = []
    for partition, offset in begin.items():
        end = stored.get(partition, offset)
        if offset < end:
            raise DataRefused(
                f"partition {partition}: offsets up to {end - 1} are stored, from {offset} on they would be"
                " stored twice;"
                f" begin at {end} or later, or with --from-offsets {TABLES_END}"
            )
        if offset > end:
            jumped.append(SkippedRange(partition, end, offset - 1))
        chosen[partition] = offset
    return _begin(settings, chosen, there, jumped, why=why, rebuild=rebuild, say=say)


def _prepare(settings: Settings, *, rebuild: bool, say: Say) -> None:
    """Tables of this version, and no batch half done: what was decided of the old generation stays decided."""
    require_known_features(settings)
    _refuse_other_topics(settings)
    create_tables(settings)
    add_columns(settings, but=DERIVED if rebuild else ())
    carry_out_open_plan(settings, say)


def _begin(
    settings: Settings, offsets: Mapping[int, int], there: Offsets, skipped: Sequence[SkippedRange],
    *, why: str, rebuild: bool, say: Say,
) -> RunRecord:  # fmt: skip
    """Record first: if the process dies before the last step, the tables' owner refuses every start until this is
    done again. Stored rows of a partition that audit does not know are read again, never only deleted. Where the
    windows begin anew, by `rebuild` or because they are gone, the last lines said are what to recompute again."""
    offsets = first_unaudited(settings, there.keys() - offsets.keys()) | dict(offsets)
    _refuse_gone(offsets, there)
    files = CheckpointFiles(settings)
    old = _old_record(files)
    facts = gather(settings)
    _refuse_unfit(settings, old, facts.topics, facts.shape, rebuild=rebuild)
    ahead = {table: count_ahead(settings, table, offsets, there) for table in (READINGS, REJECTED)}
    start = _start(settings, offsets, rebuild=rebuild)
    record = complete(new_record(number=_next_number(files), start=start), facts)
    write_record(files, record)
    for table, rows in ahead.items():
        if rows:
            delete_ahead(settings, table, offsets, there)
            say(f"{rows} rows of {table.name} that no audit row counts were taken back; they are read again")
    if rebuild:
        for table in DERIVED:
            empty_table(settings, table)
    _note_skipped(settings, record, skipped, why)
    claim(settings, record.generation)
    say(f"generation {record.number} begins at {_listed(offsets) or settings.pipeline.starting}")
    if start.windows_after is None:
        for line in what_to_recompute(settings):
            say(line)
    return record


def _start(settings: Settings, offsets: Mapping[int, int], *, rebuild: bool) -> Start:
    """The panes of the generation come after the version that the table has now (`windows.fill`)."""
    panes_version = table_version(settings, PANES)
    start = Start(dict(offsets) or None, panes_version=panes_version, resend=_newest_batches(settings))
    after: datetime | None = highest_value(settings, METER_WINDOWS, "window_end")
    if rebuild or after is None:
        return start
    since = after + timedelta(seconds=settings.detection.slide_s - settings.detection.window_s)
    return replace(start, windows_after=after, readings_since=since)


def _old_record(files: CheckpointFiles) -> RunRecord | None:
    try:
        return read_record(files)
    except DataRefused:  # a damaged one is a reason to be here
        return None


def _refuse_unfit(
    settings: Settings, old: RunRecord | None, topics: Mapping[str, str], shape: Mapping[str, str], *, rebuild: bool
) -> None:
    name = settings.kafka.topics.readings
    if old and old.topics.get(name, topics[name]) != topics[name] and audited_ends(settings):
        raise DataRefused(
            f"topic {name} was deleted and made again: its offsets would be taken for stored ones; begin with a"
            " lake.root"
            " and a pipeline.checkpoint of its own"
        )
    changed = {k: v for k, v in shape.items() if k in REBUILD and old and old.shape.get(k, v) != v}
    if changed and not rebuild:
        raise DataRefused(next(changed_shape(old.shape if old else {}, changed)))


def _refuse_other_topics(settings: Settings) -> None:
    topic = settings.kafka.topics.readings
    if other := {row["kafka_topic"] for row in audited(settings, "kafka_topic")} - {topic}:
        raise DataRefused(
            f"lake.root = {settings.lake.root} holds records of topic {min(other)}, not of {topic}; give {topic} a"
            " lake.root and a pipeline.checkpoint of its own"
        )


def _refuse_gone(offsets: Mapping[int, int], there: Offsets) -> None:
    for partition, offset in sorted(offsets.items()):
        end = there.get(partition, (0, 0))[1]
        if offset > end:
            raise DataRefused(
                f"partition {partition}: offset {offset} is behind the topic's end {end}: the topic was made again, or"
                " this is another cluster; begin with a lake.root and a pipeline.checkpoint of its own"
            )
    gone = {p: there[p][0] - 1 for p, offset in sorted(offsets.items()) if offset < there[p][0]}
    if gone:
        ranges = " ".join(f"{p}:{offsets[p]}-{last}" for p, last in gone.items())
        raise DataRefused(
            f"Kafka has lost records that are not stored, {ranges} (partition:first-last); record the loss and go"
            " on with"
            f" `gridwatch skip-range {ranges}`"
        )


def _newest_batches(settings: Settings) -> dict[int, int]:
    """First offset of the newest batch of each partition."""
    newest: dict[int, tuple[int, int]] = {}
    for row in audited(settings, "kafka_partition", "first_offset", "last_offset", "skipped_because"):
        if row["skipped_because"] is None:
            found = row["last_offset"], row["first_offset"]
            newest[row["kafka_partition"]] = max(newest.get(row["kafka_partition"], found), found)
    return {partition: first for partition, (_, first) in sorted(newest.items())}


def _note_skipped(settings: Settings, record: RunRecord, skipped: Sequence[SkippedRange], why: str) -> None:
    """One row of audit a range, with no records and the reason."""
    rows = [tuple(_skipped_row(settings, record, lost, why)[name] for name in AUDIT.column_names) for lost in skipped]
    if rows:
        append_rows_once(as_arrow(rows, AUDIT), settings, AUDIT, BatchId(record.generation, "skip-range", 0))


def _skipped_row(settings: Settings, record: RunRecord, lost: SkippedRange, why: str) -> dict[str, Any]:
    """A crashed batch may have stored some of the range: those rows count."""
    place = f"kafka_partition = {lost.partition} AND kafka_offset BETWEEN {lost.first} AND {lost.last}"
    accepted, rejected = (
        read_rows(settings, table, columns=["kafka_offset"], where=place)["kafka_offset"].to_pylist()
        for table in (READINGS, REJECTED)
    )
    return {
        "generation": record.generation, "batch_id": -1, "kafka_topic": settings.kafka.topics.readings,
        "kafka_partition": lost.partition, "first_offset": lost.first, "last_offset": lost.last,
        "records_in": len({*accepted, *rejected}), "accepted": len(accepted), "rejected": len(rejected),
        "rejected_by_reason": {},
        "late": 0, "resent": 0, "max_event_ts": None, "max_kafka_ts": None, "skipped_because": why,
        "gaps": 0, "aligned_ts": None, "judged_until": None,
    }  # fmt: skip


def _next_number(files: CheckpointFiles) -> int:
    """One more than any generation that has left a folder."""
    names = files.names("")
    endings = [name.removeprefix("generation-") for name in names if name.startswith("generation-")]
    numbers = [int(ending) for ending in endings if ending.isdecimal()]
    old = _old_record(files)
    used = [*numbers, *([1] if names & set(WRITTEN) else []), *([old.number] if old else [])]
    return max(used, default=0) + 1


def _listed(offsets: Mapping[int, int]) -> str:
    return ", ".join(f"offset {offset} of partition {partition}" for partition, offset in sorted(offsets.items()))
