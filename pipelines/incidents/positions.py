"""Up to where the topics of the incidents have been read: transactions of the table incidents, committed last.

They lie with the tables, not in a consumer group or a checkpoint: tables that are restored go on where they were. One
transaction holds the next offset of each partition, one the clock, one the number of the newest update that is on its
topic too. A new generation has none and reads its topics from their beginning; ids keep everything single.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError

from pipelines.incidents.rows import epoch_ms
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import open_table
from pipelines.tables import ANOMALIES, INCIDENTS, OPERATOR_ACTIONS
from pipelines.write_times import timed

QUERY = "incidents"

Offsets = Mapping[str, Mapping[int, int]]
"""Next offset by topic and partition."""


@dataclass(frozen=True)
class Position:
    """What is done: stored in the tables and acknowledged on the topic."""

    offsets: Offsets = field(default_factory=dict)
    """Partitions that are not named begin at their beginning."""
    clock: datetime | None = None
    """The latest window end that has moved the clock."""
    number: int = -1
    """Of the newest update."""


def read_position(settings: Settings, generation: str, partitions: Mapping[str, Iterable[int]]) -> Position:
    """The committed position of a generation; an empty one when it has none. `partitions` are the topics' own.

    Raises what the Delta library does, but for a table that is not there.
    """
    try:
        asked = open_table(settings, INCIDENTS).transaction_version
    except TableNotFoundError:
        return Position()
    if (number := asked(_app_id(generation, "done"))) is None:
        return Position()
    offsets: dict[str, dict[int, int]] = {}
    for topic, there in partitions.items():
        known = {partition: asked(_app_id(generation, f"{topic}/{partition}")) for partition in there}
        offsets[topic] = {partition: at for partition, at in known.items() if at is not None}
    clock_ms = asked(_app_id(generation, "clock"))
    return Position(offsets, None if clock_ms is None else _moment(clock_ms), number)


def has_position(settings: Settings, generation: str) -> bool:
    """Whether a generation has committed a position."""
    return read_position(settings, generation, {}).number >= 0


def commit_position(settings: Settings, generation: str, position: Position, before: Position) -> None:
    """Commit what has moved since `before`. A crash before it repeats updates, after it nothing."""
    moved = {
        f"{topic}/{partition}": at
        for topic, found in position.offsets.items()
        for partition, at in found.items()
        if before.offsets.get(topic, {}).get(partition) != at
    }
    if position.clock is not None and position.clock != before.clock:
        moved["clock"] = epoch_ms(position.clock)
    moved["done"] = position.number
    commit = CommitProperties(
        app_transactions=[Transaction(_app_id(generation, name), at) for name, at in moved.items()]
    )
    table = open_table(settings, INCIDENTS)
    with timed("delta", "positions"):
        try:
            table.create_write_transaction([], "append", table.schema(), None, commit_properties=commit)
        except CommitFailedError:
            # When the reply to a commit is lost the library sends it again, and meets its own commit.
            if open_table(settings, INCIDENTS).transaction_version(_app_id(generation, "done")) != position.number:
                raise


def newest_update(settings: Settings, generation: str) -> tuple[int, int]:
    """Number of the newest update that any table has, and of the newest that the table incidents has; -1 without."""
    newest = {
        table: open_table(settings, table).transaction_version(BatchId(generation, QUERY, 0).app_id(table))
        for table in (ANOMALIES, OPERATOR_ACTIONS, INCIDENTS)
    }
    known = {table: -1 if number is None else int(number) for table, number in newest.items()}
    return max(known.values()), known[INCIDENTS]


def _app_id(generation: str, name: str) -> str:
    return f"gridwatch/{generation}/{QUERY}/read/{name}"


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms)
