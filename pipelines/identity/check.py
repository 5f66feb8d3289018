"""Whether checkpoint, tables, topics and settings belong together; each mismatch in one line with the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from pipelines.errors import DataRefused
from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.findings import known_position, spark_checkpoint
from pipelines.identity.lost import NEW_GENERATION, REBUILD_COMMAND, Offsets, lost_findings, lost_records
from pipelines.identity.record import (
    REBUILD,
    RUN_RECORD,
    RunRecord,
    new_record,
    read_record,
    shape_of,
    versions_now,
    write_record,
)
from pipelines.identity.tables import audited, audited_ends, claim, newest_batch, owner_of, table_ids
from pipelines.incidents.positions import has_position
from pipelines.lake_sql import no_tables
from pipelines.settings import Settings
from pipelines.small_tables import count_rows, table_is_there
from pipelines.table_features import require_known_features
from pipelines.tables import (
    AUDIT,
    BASELINES,
    METER_WINDOWS,
    PANES,
    READINGS,
    REJECTED,
    TABLES,
    Table,
)
from pipelines.topics import holds_record, topic_ids, topic_offsets

Say = Callable[[str], None]
ARCHIVE = "archive"
WRITTEN: dict[str, tuple[Table, ...]] = {
    ARCHIVE: (READINGS, REJECTED, PANES, AUDIT),
    "windows": (METER_WINDOWS, BASELINES),
}
"""Tables whose commits carry the batch number of each of Spark's queries."""


@dataclass(frozen=True)
class Facts:
    """What is there now, beside the record."""

    topics: Mapping[str, str]
    tables: Mapping[str, str]
    shape: Mapping[str, str]
    owner: str | None
    there: Mapping[str, Offsets]
    """Kafka's offsets of the topics that are read."""
    holds_record: Callable[[int, int, int], bool]
    """Whether Kafka has a record of a partition of the readings from one offset up to, without, another."""


def settle_identity(settings: Settings, say: Say) -> RunRecord:
    """The record of this run: checked, completed, or made on the very first start. Kafka and the tables must be there.

    Raises DataRefused, one line, for the first thing that does not fit; then nothing was changed.
    """
    files = CheckpointFiles(settings)
    found = read_record(files)
    record = found or _first_record(files, settings)
    facts = gather(settings)
    for problem in problems(files, settings, record, facts):
        raise DataRefused(problem)
    now = complete(record, facts)
    if now != found:
        write_record(files, now)
        if found is not None:
            say(f"{RUN_RECORD} brought up to date: {_changes(found, now)}")
    claim(settings, now.generation)
    return now


def examine(settings: Settings) -> list[str]:
    """Everything that `settle_identity` would refuse; nothing is changed."""
    files = CheckpointFiles(settings)
    try:
        record = read_record(files) or _first_record(files, settings)
    except DataRefused as refusal:
        return [str(refusal)]
    return list(problems(files, settings, record, gather(settings)))


def require_own_tables(settings: Settings) -> None:
    """For a command that writes by hand and needs no Kafka: whether this checkpoint's pipeline owns the tables.

    Raises DataRefused when it does not, and for a table with a feature that not every reader knows; SettingsError when
    there are none.
    """
    require_known_features(settings)
    files = CheckpointFiles(settings)
    record, owner = read_record(files), owner_of(settings)
    if owner is None and not table_is_there(settings, AUDIT):
        raise no_tables(settings.lake.root)
    if owner is not None and (record is None or record.generation != owner):
        raise DataRefused(
            f"lake.root = {settings.lake.root} belongs to generation {owner}, and {files.root} is"
            f" {record.generation if record else 'no checkpoint'}: name the pipeline.checkpoint of that pipeline, which"
            " must be stopped"
        )


def gather(settings: Settings) -> Facts:
    """Ask Kafka and the tables."""
    topics = settings.kafka.topics
    names = (topics.readings, *topics.of_incidents)
    return Facts(
        topics=topic_ids(settings.kafka, names),
        tables=table_ids(settings),
        shape=shape_of(settings),
        owner=owner_of(settings),
        there={name: topic_offsets(settings.kafka, name) for name in names},
        holds_record=partial(holds_record, settings.kafka, topics.readings),
    )


def problems(files: CheckpointFiles, settings: Settings, record: RunRecord, facts: Facts) -> Iterator[str]:
    """What does not fit, the cause before its consequences."""
    yield from _foreign_tables(files, settings, record, facts)
    yield from older_edition(files, record)
    yield from changed_shape(record.shape, facts.shape)
    yield from _new_topics(settings, record, facts)
    for query, written in WRITTEN.items():
        batches = Batches.read(files, record.folder(query))
        damage = [f"{files.root}/{problem}" for problem in batches.damage()]
        yield from (f"{problem}: restore the checkpoint, or go on with {NEW_GENERATION}" for problem in damage[:1])
        if not damage:
            yield from _older_checkpoint(files, settings, record, query, written, batches)
    archive = Batches.read(files, record.folder(ARCHIVE))
    if not list(archive.damage()):
        yield from _older_tables(settings, record, facts, archive)
        yield from lost_records(settings, facts.there, archive)
    if not has_position(settings, record.generation):
        left = spark_checkpoint(settings, record)
        damage = [f"{files.root}/{problem}" for problem in left.damage()]
        yield from (f"{problem}: restore the checkpoint, or go on with {NEW_GENERATION}" for problem in damage[:1])
        if damage:
            return
    yield from lost_findings(facts.there, known_position(settings, record, facts.there).offsets)


def changed_shape(recorded: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    """Query-shaping settings that differ from those of the checkpoint.

    >>> print(*changed_shape({"detection.window": "5 min"}, {"detection.window": "10 min"}))
    detection.window = 10 min, but this checkpoint was made with 5 min: set it back, or compute the windows again from \
readings with `gridwatch checkpoint new-generation --rebuild`
    """
    for name, value in now.items():
        if (before := recorded.get(name, value)) != value:
            way = (
                f"compute the windows again from readings with {REBUILD_COMMAND}"
                if name in REBUILD
                else "begin with a pipeline.checkpoint and a lake.root of its own"
                if name in ("kafka.topics.readings", "pipeline.starting")
                else f"go on with {NEW_GENERATION}"
            )
            yield f"{name} = {value}, but this checkpoint was made with {before}: set it back, or {way}"


def is_of_older_edition(files: CheckpointFiles, record: RunRecord) -> bool:
    """Whether the checkpoints were made before there were panes: their windows query reads another table."""
    return record.start.panes_version is None and not all(
        Batches.read(files, record.folder(query)).is_new for query in WRITTEN
    )


def older_edition(files: CheckpointFiles, record: RunRecord) -> Iterator[str]:
    """The refusal of such checkpoints."""
    if is_of_older_edition(files, record):
        yield (
            f"{files.root} was made by an earlier version: `gridwatch upgrade` says what is to be done, and does it"
            " with --yes"
        )


def refuse_older_edition(settings: Settings) -> None:
    """Raises DataRefused for checkpoints of an earlier version, before anybody changes its tables."""
    files = CheckpointFiles(settings)
    if record := read_record(files):
        for problem in older_edition(files, record):
            raise DataRefused(problem)


def refuse_vanished(settings: Settings) -> None:
    """Raises DataRefused when a table of the record is not there: before anybody makes it anew, and empty."""
    record = read_record(CheckpointFiles(settings))
    for name, known in (record.tables if record else {}).items():
        if name in TABLES and not table_is_there(settings, TABLES[name]):
            raise DataRefused(_other_table(settings, name, known, None))


def _first_record(files: CheckpointFiles, settings: Settings) -> RunRecord:
    """A new record for a new checkpoint; DataRefused when checkpoint or tables are not new."""
    if owner_of(settings) or audited(settings, "batch_id") or _has_records(settings):
        raise DataRefused(
            f"{settings.lake.root} holds archived batches, but {files.root}/{RUN_RECORD} is missing: restore the"
            f" checkpoint, go on from the tables with {NEW_GENERATION}, or point lake.root and pipeline.checkpoint at"
            " empty places"
        )
    if not all(Batches.read(files, query).is_new for query in WRITTEN):
        raise DataRefused(
            f"{files.root} holds checkpoints, but {RUN_RECORD} is missing: restore it, or point"
            " pipeline.checkpoint at an"
            " empty folder"
        )
    return new_record()


def _foreign_tables(files: CheckpointFiles, settings: Settings, record: RunRecord, facts: Facts) -> Iterator[str]:
    generations = {row["generation"] for row in audited(settings, "generation")} if facts.owner is None else set()
    other = facts.owner if facts.owner not in (None, record.generation) else None
    if other is None and generations and record.generation not in generations:
        other = sorted(generations)[0]
    if other is not None:
        yield (
            f"lake.root = {settings.lake.root} belongs to generation {other}, {files.root} is generation"
            f" {record.generation}: two pipelines on one lake, or a checkpoint of other tables; give this pipeline a"
            f" lake.root of its own, restore the checkpoint, or take the tables over with {NEW_GENERATION}"
        )
        return
    for name, known in record.tables.items():
        now = facts.tables.get(name)
        if now != known:
            yield _other_table(settings, name, known, now)
            return


def _other_table(settings: Settings, name: str, known: str, now: str | None) -> str:
    found = f"has id {now}, not {known} as when this checkpoint was made" if now else "is gone"
    return (
        f"table {name} of {settings.lake.root} {found}: restore the tables, or go on with what is there with"
        f" {NEW_GENERATION}"
    )


def _has_records(settings: Settings) -> bool:
    """Also of tables that nobody owns any more because audit was lost."""
    return any(table_is_there(settings, table) and count_rows(settings, table) for table in (READINGS, REJECTED))


def _new_topics(settings: Settings, record: RunRecord, facts: Facts) -> Iterator[str]:
    for name, now in facts.topics.items():
        known = record.topics.get(name, now)
        if known == now:
            continue
        said = f"topic {name} was deleted and made again (id {now}, not {known})"
        if name == settings.kafka.topics.readings:
            yield (
                f"{said}: its offsets begin anew and would be taken for stored ones; keep these tables and begin with a"
                " lake.root and a pipeline.checkpoint of its own, or read a topic of another name there"
            )
        else:
            yield f"{said}: what it held and was not stored is gone; go on with {NEW_GENERATION}"


def _older_checkpoint(
    files: CheckpointFiles, settings: Settings, record: RunRecord, query: str, written: tuple[Table, ...], log: Batches
) -> Iterator[str]:
    """Delta would skip batches whose number it has: their records would be lost."""
    last = max(log.planned, default=-1)
    for table in written:
        newest = newest_batch(settings, table, record.generation, query)
        if newest is not None and newest > last:
            yield (
                f"table {table.name} holds batch {newest} of query {query}, but"
                f" {files.root}/{record.folder(query)} ends"
                f" at {last if last >= 0 else 'nothing'}: the checkpoint is older than the tables or was deleted;"
                " restore"
                f" it, or go on with {NEW_GENERATION}"
            )
            return


def _older_tables(settings: Settings, record: RunRecord, facts: Facts, archive: Batches) -> Iterator[str]:
    """What the checkpoint says is done must be accounted for; markers of Kafka's transactions are no records."""
    done = max(archive.done, default=None)
    if done is None:
        return
    topic = settings.kafka.topics.readings
    began = archive.first_offsets().get(topic, {}) | (record.start.offsets or {})
    known = began | audited_ends(settings, record.generation)
    mine = [r["batch_id"] for r in audited(settings, "generation", "batch_id") if r["generation"] == record.generation]
    is_older = max(mine, default=-1) < done
    for partition, end in sorted(archive.end_of(done).get(topic, {}).items()):
        first = facts.there.get(topic, {}).get(partition, (0, 0))[0]
        stored = known.get(partition, first)
        # Kafka cannot say any more what it held where the tables end.
        is_gone = is_older and first > stored
        if stored < end and (is_gone or facts.holds_record(partition, stored, end)):
            yield (
                f"audit of {settings.lake.root} ends at offset {stored} of partition {partition}, the checkpoint at"
                f" {end}: the tables are older than the checkpoint; restore both of one moment, or read on"
                f" from the tables with {NEW_GENERATION}"
            )
            return


def complete(record: RunRecord, facts: Facts) -> RunRecord:
    """The record with what is there now."""
    return replace(
        record,
        topics=dict(facts.topics),
        tables=dict(facts.tables),
        shape=dict(facts.shape),
        versions=versions_now(),
        start=replace(record.start, panes_version=record.start.panes_version or 0),
    )


def _changes(before: RunRecord, now: RunRecord) -> str:
    if not before.shape:
        return "it was written by an earlier version"
    changed = [f"{name} {before.versions.get(name)} to {v}" for name, v in now.versions.items()
               if before.versions.get(name) != v]  # fmt: skip
    return ", ".join(changed) or "tables or topics were added"
