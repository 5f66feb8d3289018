"""From an older lake to this version, step by step. Each step can be repeated, and is said before it is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pipelines.errors import SettingsError
from pipelines.identity.check import WRITTEN, is_of_older_edition, refuse_vanished, require_own_tables
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.generation import new_generation
from pipelines.identity.record import read_record
from pipelines.identity.starting import settle_start
from pipelines.identity.tables import add_columns, audited, missing_columns, noted_start
from pipelines.incidents.positions import QUERY, has_position
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, table_is_there
from pipelines.tables import AUDIT, TABLES
from pipelines.topics import topic_names

Say = Callable[[str], None]

HEARTBEATS = "alert-heartbeats"
"""Topic of the real-time alerts job of earlier versions."""


@dataclass(frozen=True)
class Step:
    """One change that is due."""

    what: str
    """What is done, and why."""
    do: Callable[[], None]


@dataclass(frozen=True)
class Upgrade:
    """What an older lake needs; `notes` are left to a person, because an older version may still use it."""

    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def plan_upgrade(settings: Settings, say: Say) -> Upgrade:
    """What is due; nothing is changed. Kafka and the store must be there; `say` is for the steps when they are done.

    Raises SettingsError without a lake, DataRefused for tables that another pipeline owns, that have vanished, that a
    newer version wrote or that this version cannot read.
    """
    if not table_is_there(settings, AUDIT):
        raise SettingsError(f"lake.root = {settings.lake.root} has no table audit: nothing is there to upgrade")
    require_own_tables(settings)
    refuse_vanished(settings)
    steps = tuple(_steps(settings, say))
    return Upgrade(steps, tuple(_notes(settings)))


def _steps(settings: Settings, say: Say) -> Iterator[Step]:
    there = [table for table in TABLES.values() if table_is_there(settings, table)]
    columns = [f"{table.name}.{field.name}" for table in there for field in missing_columns(settings, table)]
    if columns:
        yield Step(f"add the columns {', '.join(columns)}; they are null in old rows", lambda: _add_columns(settings))
    absent = [name for name, table in TABLES.items() if table not in there]
    if absent:
        yield Step(f"create the tables {', '.join(absent)}", lambda: _create(settings))
    if noted_start(settings) is None and audited(settings, "batch_id"):
        yield Step(
            "note with the tables where the alerts begin in each partition: where the anomalies of readings were surely"
            " published",
            lambda: _note_start(settings, say),
        )
    files = CheckpointFiles(settings)
    record = read_record(files)
    if record is not None and is_of_older_edition(files, record):
        yield Step(
            f"begin a new generation after generation {record.number}: new checkpoints that go on from the tables. The"
            " archive reads on behind its last audited offset; open windows are computed again from readings",
            lambda: _begin(settings, say),
        )


def _add_columns(settings: Settings) -> None:
    add_columns(settings)


def _create(settings: Settings) -> None:
    create_tables(settings)


def _note_start(settings: Settings, say: Say) -> None:
    settle_start(settings, say)


def _begin(settings: Settings, say: Say) -> None:
    new_generation(settings, {}, rebuild=False, say=say)


def _notes(settings: Settings) -> Iterator[str]:
    """What an earlier version has left and this one does not use."""
    files = CheckpointFiles(settings)
    names, record = files.names(""), read_record(files)
    old = sorted(name for name in names if name.startswith("alerts-"))
    if record is not None and (record.number > 1 or is_of_older_edition(files, record)):
        old += sorted(names & {*WRITTEN, QUERY})
    elif record is not None and has_position(settings, record.generation):
        old += sorted(names & {QUERY})
    if old:
        yield (
            f"{settings.pipeline.checkpoint} keeps {', '.join(old)}; once `gridwatch run` has read on, and you do not"
            " go back to the version before, remove them"
        )
    if HEARTBEATS in topic_names(settings.kafka):
        yield f"topic {HEARTBEATS} is no longer used; delete it when no older version runs"
