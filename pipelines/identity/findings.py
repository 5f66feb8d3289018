"""Where the incidents go on: their position in the tables, or in the checkpoint that an earlier version has left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipelines.identity.batches import Batches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import RunRecord
from pipelines.incidents.positions import QUERY, Position, read_position
from pipelines.settings import Settings


def known_position(settings: Settings, record: RunRecord, partitions: Mapping[str, Iterable[int]]) -> Position:
    """Of the given partitions by topic; an empty one for a generation that has not begun to read."""
    committed = read_position(settings, record.generation, partitions)
    return committed if committed.number >= 0 else first_position(settings, record)


def first_position(settings: Settings, record: RunRecord) -> Position:
    """Where Spark's query of versions before 2.0 would go on: its last batch again unless it is done. Empty without a
    checkpoint of it."""
    return Position(spark_checkpoint(settings, record).next_offsets() or {})


def spark_checkpoint(settings: Settings, record: RunRecord) -> Batches:
    """The log of Spark's query incidents of the generation, which has none any more."""
    return Batches.read(CheckpointFiles(settings), record.folder(QUERY))
