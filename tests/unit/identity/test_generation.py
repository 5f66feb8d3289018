"""A new generation takes back only rows that are read again: nothing that Kafka may have lost, no other topic's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DataRefused
from pipelines.identity import generation, tables
from pipelines.identity.generation import SkippedRange, skip_ranges
from pipelines.identity.past_rows import count_ahead, delete_ahead, first_unaudited
from pipelines.identity.record import read_record
from pipelines.identity.tables import Ownership, claim
from pipelines.sinks import BatchId
from pipelines.small_tables import count_rows, create_tables, read_rows
from pipelines.tables import PANES, READINGS, REJECTED
from tests.unit.identity.lakes import Lake, reading, settings_in


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Thirty readings; no audit any more, an empty table in its place."""
    lake = Lake(settings_in(tmp_path)).make()
    shutil.rmtree(Path(lake.settings.lake.root) / "audit")
    create_tables(lake.settings)
    return lake


def begin(lake: Lake, monkeypatch: pytest.MonkeyPatch, offsets: dict[int, int], first: int) -> list[str]:
    """Begin a generation with a Kafka that holds partition 0 from `first` on; returns what was said."""
    there, said = {0: (first, 40)}, list[str]()
    monkeypatch.setattr(generation, "gather", lambda settings: lake.facts(owner=None))
    options: dict[str, Any] = {"why": "lost", "rebuild": False, "say": said.append}
    generation._begin(lake.settings, offsets, there, [], **options)
    return said


def test_without_audit_nothing_is_deleted_that_kafka_has_lost(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataRefused, match=r"Kafka has lost records that are not stored, 0:0-24 .*skip-range 0:0-24"):
        begin(lake, monkeypatch, {}, first=25)
    assert count_rows(lake.settings, READINGS) == 30
    begin(lake, monkeypatch, {0: 25}, first=25)
    assert sorted(read_rows(lake.settings, READINGS)["kafka_offset"].to_pylist()) == list(range(25))


def test_without_audit_what_kafka_still_has_is_read_again_from_its_first_stored_offset(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = begin(lake, monkeypatch, {}, first=0)
    assert count_rows(lake.settings, READINGS) == 0
    assert said[-1] == "generation 2 begins at offset 0 of partition 0"


def test_rejected_records_count_as_stored_too(lake: Lake) -> None:
    rows = [reading(n, kafka_partition=1, reason="not_utf8", rule_version="1") for n in (7, 8)]
    lake.add(REJECTED, rows, BatchId("g", "archive", 0))
    assert first_unaudited(lake.settings, [0, 1, 2]) == {0: 0, 1: 7}


def test_rows_of_another_topic_are_never_taken_back(tmp_path: Path, lake: Lake) -> None:
    other = settings_in(tmp_path, kafka={"topics": {"readings": "other"}})
    assert count_ahead(other, READINGS, {}, [0]) == 0
    delete_ahead(other, READINGS, {}, [0])
    assert count_rows(other, READINGS) == 30
    assert first_unaudited(other, [0]) == {}


def test_a_skipped_range_of_another_topic_is_refused_before_kafka_is_asked(tmp_path: Path) -> None:
    Lake(settings_in(tmp_path)).make()
    nowhere = {"topics": {"readings": "other"}, "bootstrap_servers": "127.0.0.1:1"}
    with pytest.raises(DataRefused, match="holds records of topic sensor-readings, not of other"):
        skip_ranges(settings_in(tmp_path, kafka=nowhere), [SkippedRange(0, 0, 4)], why="x", say=print)


def test_a_generation_reads_panes_from_the_version_on_that_the_table_has_when_it_begins(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own ones come behind it; those of earlier generations are not its own."""
    for number in range(3):
        lake.add(PANES, [{"generation": "old", "batch_id": number}], BatchId("old", "archive", number))
    begin(lake, monkeypatch, {0: 30}, first=0)
    record = read_record(lake.files)
    assert record is not None
    assert record.start.panes_version == 3


def test_a_folder_somebody_put_aside_does_not_disturb_the_numbers(lake: Lake) -> None:
    for name in ("generation-2", "generation-7.bak"):
        (lake.folder / name).mkdir()
    assert generation._next_number(lake.files) == 3


def test_a_pipeline_whose_tables_were_taken_over_is_told_so(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """From another checkpoint, whose lock does not keep it out."""
    monkeypatch.setattr(tables, "_ASKED_EVERY_S", 0.0)
    ownership = Ownership(lake.settings, lake.record.generation)
    ownership.require()
    claim(lake.settings, lake.record.generation)
    ownership.require()
    claim(lake.settings, "another")
    with pytest.raises(DataRefused, match="belongs to generation another now, not to"):
        ownership.require()
