"""A batch's plan made true: commits of the tables in their order, then its dead letters.

Every step can be repeated: a table that has the batch is skipped, and a dead letter may be sent twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import obstore

from pipelines.broker.records import send_records
from pipelines.errors import DataRefused
from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.lost import NEW_GENERATION
from pipelines.identity.record import RunRecord, read_record
from pipelines.identity.tables import audited_ends, newest_batch, owner_of
from pipelines.lake.delta import commit_files
from pipelines.lake.parquet import DataFile
from pipelines.lake.store import object_store
from pipelines.readings.facts import as_audit
from pipelines.readings.letters import letters_of
from pipelines.readings.plan import Plan, Plans
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow
from pipelines.tables import AUDIT, PANES, READINGS, REJECTED, Table

QUERY = "archive"
PLANS = "plans"
"""Folder of the plans, as the record of the run places it."""
COMMITTED: tuple[Table, ...] = (READINGS, REJECTED, PANES)
"""Tables whose data files a plan names, in the order of their commits; `audit` comes after them."""

Say = Callable[[str], None]


def plans_of(settings: Settings, record: RunRecord) -> Plans:
    """The plans of a run's generation."""
    return Plans(object_store(settings.pipeline.checkpoint, settings.store), record.folder(PLANS))


def carry_out(plan: Plan, settings: Settings) -> None:
    """Do what a plan says. When the process dies here the batch is done again from the same plan."""
    commit_tables(plan, settings)
    send_letters(plan, settings)


def commit_tables(plan: Plan, settings: Settings) -> bool:
    """The part of a plan that is done once; returns whether `audit` had not counted the batch before."""
    batch = BatchId(plan.generation, QUERY, plan.batch)
    for table in COMMITTED:
        if files := plan.files.get(table.name):
            commit_files(settings, table, files, batch)
    rows = [as_audit(figures, generation=plan.generation, batch_id=plan.batch) for figures in plan.audit]
    return append_rows_once(as_arrow(rows, AUDIT), settings, AUDIT, batch)


def send_letters(plan: Plan, settings: Settings) -> None:
    """The part of a plan that may be done twice, after the tables."""
    if rejected := plan.files.get(REJECTED.name):
        objects = object_store(settings.lake.root, settings.store)
        send_records(settings.kafka, settings.kafka.topics.dead_letters, letters_of(rejected, objects))


def find_plan(plans: Plans, settings: Settings, batch: BatchId, ranges: dict[int, tuple[int, int]]) -> Plan | None:
    """The plan to carry out for a batch that Spark begins; None: decide it.

    A plan of other ranges is of a batch whose ranges Spark's log has lost: it is removed when nothing of it was
    committed. Raises DataRefused when tables hold a part of a batch that there is no fitting plan of.
    """
    plan = read_plan(plans, settings, batch.number)
    if plan is not None and plan.generation == batch.generation and dict(plan.ranges) == ranges:
        return plan
    holders = _holding(settings, batch)
    if holders:
        which = "has another plan" if plan else "has no plan"
        raise DataRefused(
            f"table {holders[0]} holds batch {batch.number} of the archive, which {which} below"
            f" {settings.pipeline.checkpoint}/{plans.folder}: the checkpoint was restored or is of an older version; go"
            f" on with {NEW_GENERATION}"
        )
    if plan is not None:
        plans.remove(batch.number)
    return None


def read_plan(plans: Plans, settings: Settings, number: int) -> Plan | None:
    """The plan of a batch, or None. Raises DataRefused when it is damaged."""
    try:
        return plans.read(number)
    except (ValueError, KeyError, TypeError) as problem:
        raise _damaged(settings, plans, problem) from None


def newest_plan(plans: Plans, settings: Settings) -> Plan | None:
    """The newest plan, or None. Raises DataRefused when it is damaged."""
    try:
        return plans.newest()
    except (ValueError, KeyError, TypeError) as problem:
        raise _damaged(settings, plans, problem) from None


def planned_files(settings: Settings, table: Table) -> Sequence[DataFile]:
    """Data files of a table that the newest plan names, whether a version has them already or not."""
    record = read_record(CheckpointFiles(settings))
    plan = newest_plan(plans_of(settings, record), settings) if record else None
    return plan.files.get(table.name, ()) if plan else ()


def carry_out_open_plan(settings: Settings, say: Say) -> bool:
    """Carry out the plan of a batch that a crash has left unfinished; whether there was one.

    For a command that begins a new generation, or skips offsets: what was decided of the old one must stay decided.
    The caller holds the lock. Without the checkpoint, or without a plan, nothing is done. Neither where tables and plan
    are not of one moment (a restore, or tables that are taken over): its records are then read again.
    """
    files = CheckpointFiles(settings)
    try:
        record = read_record(files)
        plan = newest_plan(plans_of(settings, record), settings) if record else None
    except DataRefused:  # a damaged one is a reason to be here
        return False
    if record is None or plan is None or plan.generation != record.generation:
        return False
    log = Batches.read(files, record.folder(QUERY))
    if plan.batch in log.done:
        return False
    if not (_follows(plan, settings, record, log) and _has_files(plan, settings)):
        say(f"batch {plan.batch} of the archive was planned for tables of another moment: its records are read again")
        return False
    carry_out(plan, settings)
    say(f"batch {plan.batch} of the archive, which was planned and not finished, was carried out")
    return True


def _follows(plan: Plan, settings: Settings, record: RunRecord, log: Batches) -> bool:
    """Whether the tables are those of the plan, and end where it begins, or where it ends."""
    if owner_of(settings) != record.generation:
        return False
    stored, topic = audited_ends(settings), settings.kafka.topics.readings
    began = log.first_offsets().get(topic, {}) | (record.start.offsets or {})
    return all(
        first == end or stored.get(partition, began.get(partition, 0)) in (first, end)
        for partition, (first, end) in plan.ranges.items()
    )


def _has_files(plan: Plan, settings: Settings) -> bool:
    """Whether the data files are there of all tables that do not have the batch yet."""
    batch = BatchId(plan.generation, QUERY, plan.batch)
    done = _holding(settings, batch)
    objects = object_store(settings.lake.root, settings.store)
    names = [f"{t.name}/{file.path}" for t in COMMITTED if t.name not in done for file in plan.files.get(t.name, ())]
    try:
        for name in names:
            obstore.head(objects, name)
    except FileNotFoundError:
        return False
    return True


def _holding(settings: Settings, batch: BatchId) -> Sequence[str]:
    """Tables that have the batch."""
    return [
        table.name
        for table in (*COMMITTED, AUDIT)
        if (newest := newest_batch(settings, table, batch.generation, QUERY)) is not None and newest >= batch.number
    ]


def _damaged(settings: Settings, plans: Plans, problem: Exception) -> DataRefused:
    return DataRefused(
        f"a plan below {settings.pipeline.checkpoint}/{plans.folder} is damaged ({str(problem)[:100]}): restore the"
        f" checkpoint, or go on with {NEW_GENERATION}"
    )
