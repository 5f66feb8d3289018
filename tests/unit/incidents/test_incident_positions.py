"""Positions lie with the tables: transactions of the table incidents."""

from __future__ import annotations

from pathlib import Path

from pipelines.incidents.positions import Position, commit_position, has_position, read_position
from pipelines.small_tables import count_rows, open_table
from pipelines.tables import INCIDENTS
from tests.factories import utc
from tests.unit.incidents.lake import lake_settings

PARTITIONS = {"anomalies": (0, 1), "window-ticks": (0,)}


def test_a_position_is_what_was_committed_and_of_its_generation(tmp_path: Path) -> None:
    settings = lake_settings(tmp_path)
    assert read_position(settings, "one", PARTITIONS) == Position()
    first = Position({"anomalies": {0: 5}, "window-ticks": {0: 1}}, utc(60), 3)
    commit_position(settings, "one", first, Position())
    assert read_position(settings, "one", PARTITIONS) == first
    later = Position({"anomalies": {0: 5, 1: 2}, "window-ticks": {0: 1}}, utc(60), 4)
    commit_position(settings, "one", later, first)
    assert read_position(settings, "one", PARTITIONS) == later
    assert has_position(settings, "one")
    assert not has_position(settings, "two")


def test_a_position_outlives_checkpoints_of_the_table_and_adds_no_rows(tmp_path: Path) -> None:
    settings = lake_settings(tmp_path)
    position = Position({"anomalies": {0: 5}}, None, 0)
    commit_position(settings, "one", position, Position())
    open_table(settings, INCIDENTS).create_checkpoint()
    assert read_position(settings, "one", {"anomalies": (0,)}) == position
    assert count_rows(settings, INCIDENTS) == 0


def test_without_the_table_there_is_no_position(tmp_path: Path) -> None:
    from pipelines.settings import Settings

    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "nothing")}})
    assert read_position(settings, "one", PARTITIONS) == Position()
