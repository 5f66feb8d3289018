"""Whose tables these are, and whether they have the columns of this version."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
from deltalake import Field, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.errors import DataRefused
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import open_table, read_rows, table_is_there
from pipelines.tables import AUDIT, TABLES, Table

OWNER = "gridwatch.generation"
"""Property of the table audit: the generation whose pipeline may write the tables."""
START = "gridwatch.start"
"""Property of the table audit: where archive and alerts begin in each partition of the readings, noted once."""
_ASKED_EVERY_S = 10.0


def table_ids(settings: Settings) -> dict[str, str]:
    """Delta's id of each table that is there."""
    return {
        name: str(open_table(settings, t).metadata().id) for name, t in TABLES.items() if table_is_there(settings, t)
    }


def owner_of(settings: Settings) -> str | None:
    """Generation that owns the tables; None when nobody has claimed them, or there are none."""
    try:
        return open_table(settings, AUDIT).metadata().configuration.get(OWNER)
    except TableNotFoundError:
        return None


def lake_id(settings: Settings) -> str:
    """What tells this lake from others: Delta's own id of the table audit, which survives a new generation.

    Raises TableNotFoundError while there are no tables.
    """
    return str(open_table(settings, AUDIT).metadata().id)


def noted_start(settings: Settings) -> dict[int, int] | None:
    """Where reading began, by partition; None while no pipeline of this version has noted it."""
    try:
        noted = open_table(settings, AUDIT).metadata().configuration.get(START)
    except TableNotFoundError:
        return None
    return None if noted is None else {int(partition): offset for partition, offset in json.loads(noted).items()}


def note_start(settings: Settings, offsets: Mapping[int, int]) -> None:
    """Note where reading begins, in one commit; the caller holds the lock of the checkpoint."""
    noted = json.dumps({str(partition): offset for partition, offset in sorted(offsets.items())})
    open_table(settings, AUDIT).alter.set_table_properties({START: noted}, raise_if_not_exists=False)


def claim(settings: Settings, generation: str) -> None:
    """Make a generation the owner of the tables, in one commit.

    Raises DataRefused when another pipeline claims them at the same moment.
    """
    if owner_of(settings) == generation:
        return
    try:
        open_table(settings, AUDIT).alter.set_table_properties({OWNER: generation}, raise_if_not_exists=False)
    except DeltaError as error:
        if owner_of(settings) == generation:
            return
        raise DataRefused(
            f"lake.root = {settings.lake.root} is being claimed by another pipeline"
            f" ({str(error).splitlines()[0]}); give"
            " this one a lake.root of its own"
        ) from None


@dataclass
class Ownership:
    """Whether a running pipeline still owns the tables, asked now and then: a new generation may have been begun from
    another checkpoint, whose lock keeps nobody out here."""

    settings: Settings
    generation: str
    _asked_at: float = -_ASKED_EVERY_S

    def require(self) -> None:
        """Raises DataRefused when another generation owns the tables."""
        if time.monotonic() - self._asked_at < _ASKED_EVERY_S:
            return
        owner = owner_of(self.settings)
        if owner not in (None, self.generation):
            raise DataRefused(
                f"lake.root = {self.settings.lake.root} belongs to generation {owner} now, not to {self.generation}:"
                " another pipeline has taken the tables over"
            )
        self._asked_at = time.monotonic()


def audited(settings: Settings, *columns: str) -> list[dict[str, Any]]:
    """Rows of audit, of all topics; none without the table."""
    try:
        rows: list[dict[str, Any]] = read_rows(settings, AUDIT, columns=columns).to_pylist()
    except TableNotFoundError:
        return []
    return rows


def audited_ends(settings: Settings, generation: str | None = None) -> dict[int, int]:
    """One past the last offset of each partition that audit accounts for, of one generation or of all."""
    columns = ["generation", "kafka_topic", "kafka_partition", "last_offset"]
    try:
        rows = read_rows(settings, AUDIT, columns=columns)
    except TableNotFoundError:
        return {}
    mine = pc.equal(rows["kafka_topic"], settings.kafka.topics.readings)
    if generation is not None:
        mine = pc.and_(mine, pc.equal(rows["generation"], generation))
    ends = rows.filter(mine).group_by("kafka_partition").aggregate([("last_offset", "max")])
    return {row["kafka_partition"]: row["last_offset_max"] + 1 for row in ends.to_pylist()}


def newest_batch(settings: Settings, table: Table, generation: str, query: str) -> int | None:
    """Number of the newest batch of a query that a table holds; None without one, or without the table."""
    try:
        found: int | None = open_table(settings, table).transaction_version(BatchId(generation, query, 0).app_id(table))
    except TableNotFoundError:
        return None
    return found


def missing_columns(settings: Settings, table: Table) -> list[Field]:
    """Columns that this version has and the stored table has not.

    Raises DataRefused when a column has another type, or the table has one that this version does not know.
    """
    stored = _types(open_table(settings, table).schema())
    wanted = json.loads(table.schema.json())["fields"]
    for field in wanted:
        if stored.get(field["name"], field["type"]) != field["type"]:
            raise DataRefused(
                f"table {table.name} of {settings.lake.root} has {field['name']} as {stored[field['name']]}, this"
                " version"
                f" as {field['type']}: it was made by another version; {_way_out(table)}"
            )
    if unknown := sorted(set(stored) - {field["name"] for field in wanted}):
        raise DataRefused(
            f"table {table.name} of {settings.lake.root} has a column {unknown[0]} that this version does not know: it"
            f" was written by a newer version; start that one, or {_way_out(table)}"
        )
    return [Field(f["name"], _delta_type(f), nullable=True) for f in wanted if f["name"] not in stored]


def add_columns(settings: Settings, *, but: Sequence[Table] = ()) -> list[str]:
    """Give stored tables, but some, the columns that this version added, null in the rows that are there.

    Returns `table.column` of each. Raises DataRefused as `missing_columns` does, before anything is changed.
    """
    tables = [table for table in TABLES.values() if table not in but and table_is_there(settings, table)]
    missing = {table: missing_columns(settings, table) for table in tables}
    for table, fields in missing.items():
        if fields:
            open_table(settings, table).alter.add_columns(fields)
    return [f"{table.name}.{field.name}" for table, fields in missing.items() for field in fields]


def _types(schema: Any) -> dict[str, Any]:
    return {field["name"]: field["type"] for field in json.loads(schema.to_json())["fields"]}


def _delta_type(field: dict[str, Any]) -> Any:
    return Schema.from_json(json.dumps({"type": "struct", "fields": [field]})).fields[0].type


def _way_out(table: Table) -> str:
    if table.owner == "windows":
        return "`gridwatch checkpoint new-generation --rebuild` computes it again from readings"
    return "begin with a lake.root and a pipeline.checkpoint of its own (docs/operations.md, upgrade)"
