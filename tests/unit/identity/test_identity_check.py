"""Each mismatch of checkpoint, tables, topics and settings is found, in one line that names the way out."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import DataRefused
from pipelines.identity.check import changed_shape, complete, examine, problems, refuse_vanished
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import RUN_RECORD, Start, read_record, shape_of, write_record
from pipelines.identity.tables import add_columns, claim, owner_of
from pipelines.incidents.positions import Position, commit_position
from pipelines.small_tables import create_tables, open_table
from pipelines.tables import AUDIT, READINGS
from tests.unit.identity.lakes import NOON, TOPICS, Lake, settings_in

NEW = "`gridwatch checkpoint new-generation --from-offsets tables`"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(settings_in(tmp_path)).make()


def found(lake: Lake, **changes: object) -> list[str]:
    return list(problems(lake.files, lake.settings, lake.record, lake.facts(**changes)))


def test_what_an_earlier_run_has_left_is_accepted(lake: Lake) -> None:
    assert found(lake) == []


@pytest.mark.parametrize("until", ["offsets", "readings", "audit"])
def test_a_crash_in_the_middle_of_a_batch_is_accepted(lake: Lake, until: str) -> None:
    lake.archive(3, until=until)
    assert found(lake) == []


DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "the newest offsets file": (lambda f: (f / "offsets/2").unlink(), "archive/offsets/2 is missing"),
    "an older offsets file": (lambda f: (f / "offsets/1").unlink(), "archive/offsets/1 is missing"),
    "a truncated offsets file": (lambda f: (f / "offsets/2").write_text("v1\n{"), "archive/offsets/2 is damaged"),
    "an empty offsets file": (lambda f: (f / "offsets/2").write_text(""), "archive/offsets/2 is damaged"),
    "an older commit": (lambda f: (f / "commits/1").unlink(), "archive/commits/1 is missing"),
    "the metadata": (lambda f: (f / "metadata").unlink(), "archive/metadata is missing"),
    "the query's folder": (shutil.rmtree, "the checkpoint is older than the tables or was deleted"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_lost_file_of_the_checkpoint_is_named_with_the_way_out(lake: Lake, what: str) -> None:
    damage, said = DAMAGE[what]
    damage(lake.folder / "archive")
    (line,) = found(lake)
    assert said in line
    assert "restore" in line
    assert NEW in line
    assert "\n" not in line


def test_the_newest_offsets_and_commit_lost_together_are_found_by_the_tables(lake: Lake) -> None:
    """As after restoring an older backup of the checkpoint: Delta would skip the next batch, which is another one."""
    (lake.folder / "archive/offsets/2").unlink()
    (lake.folder / "archive/commits/2").unlink()
    (line,) = found(lake)
    assert "holds batch 2 of query archive" in line
    assert "ends at 1" in line


def test_tables_older_than_the_checkpoint_are_found_by_the_audit(lake: Lake) -> None:
    lake.log("archive", "offsets", 3, {"sensor-readings": {"0": 40}})
    lake.log("archive", "commits", 3, {})
    (line,) = found(lake)
    assert "audit" in line
    assert "ends at offset 30 of partition 0, the checkpoint at 40: the tables are older" in line
    assert found(lake, holds_record=lambda partition, since, until: False) == [], "a transaction's markers"


def test_tables_older_than_the_checkpoint_are_found_also_when_kafka_has_dropped_the_records(lake: Lake) -> None:
    """From the first offset that is left nobody can tell records from markers."""
    lake.log("archive", "offsets", 3, {"sensor-readings": {"0": 40}})
    lake.log("archive", "commits", 3, {})
    there = {"sensor-readings": {0: (35, 50)}, "anomalies": {}, "window-ticks": {}}
    (line,) = found(lake, there=there, holds_record=lambda partition, since, until: False)
    assert "ends at offset 30 of partition 0, the checkpoint at 40: the tables are older" in line


def test_tables_restored_to_empty_are_found_by_where_the_checkpoint_began(lake: Lake) -> None:
    lake.log("archive", "sources/0", 0, {"sensor-readings": {"0": 0}})
    open_table(lake.settings, AUDIT).delete()
    (line,) = found(lake)
    assert "ends at offset 0 of partition 0, the checkpoint at 30: the tables are older" in line


def test_a_topic_made_again_is_refused_by_its_id(lake: Lake) -> None:
    (line,) = found(lake, topics=TOPICS | {"sensor-readings": "topic-9"})
    assert "topic sensor-readings was deleted and made again (id topic-9, not topic-1)" in line
    assert "a lake.root and a pipeline.checkpoint of its own" in line
    (line,) = found(lake, topics=TOPICS | {"anomalies": "topic-9"})
    assert NEW in line


def test_a_changed_setting_that_shapes_the_query_is_named_with_both_values(tmp_path: Path, lake: Lake) -> None:
    lake.settings = settings_in(tmp_path, detection={"watermark": 20})
    assert found(lake) == [
        "detection.watermark = 20 s, but this checkpoint was made with 10 s: set it back, or compute the windows again"
        " from readings with `gridwatch checkpoint new-generation --rebuild`"
    ]


CHANGES: list[dict[str, object]] = [
    {"detection": {"window": "10 min", "slide": "2 min"}},
    {"detection": {"cadence_s": 60}},
    {"pipeline": {"starting": "latest"}},
    {"kafka": {"topics": {"anomalies": "other"}}},
]


@pytest.mark.parametrize("change", CHANGES)
def test_settings_that_shape_the_query_change_its_hash_and_others_do_not(
    tmp_path: Path, change: dict[str, object]
) -> None:
    base = Lake(settings_in(tmp_path)).settings
    assert shape_of(base.model_validate(base.model_dump() | {"lake": {"root": "x"}})) == shape_of(base)
    assert list(changed_shape(shape_of(base), shape_of(base.model_validate(change))))


def test_another_pipelines_tables_are_refused(lake: Lake) -> None:
    (line,) = found(lake, owner="another")
    assert "belongs to generation another" in line
    assert "a lake.root of its own" in line


def test_other_tables_under_the_same_root_are_refused(lake: Lake) -> None:
    shutil.rmtree(Path(lake.settings.lake.root) / "meter_windows")
    create_tables(lake.settings)
    (line,) = found(lake)
    assert "table meter_windows" in line
    assert "as when this checkpoint was made" in line


def test_a_table_that_is_gone_is_named(lake: Lake) -> None:
    shutil.rmtree(Path(lake.settings.lake.root) / "rejected")
    (line,) = found(lake)
    assert "table rejected of" in line
    assert "is gone: restore the tables" in line


def test_a_table_that_is_gone_is_refused_before_anybody_makes_it_anew(lake: Lake) -> None:
    refuse_vanished(lake.settings)
    shutil.rmtree(Path(lake.settings.lake.root) / "rejected")
    with pytest.raises(DataRefused, match=r"table rejected of .* is gone: restore the tables"):
        refuse_vanished(lake.settings)


def test_a_full_lake_without_audit_is_not_new_to_a_new_checkpoint(lake: Lake) -> None:
    """All of it would be archived a second time."""
    shutil.rmtree(lake.folder)
    shutil.rmtree(Path(lake.settings.lake.root) / "audit")
    (line,) = examine(lake.settings)
    assert "holds archived batches, but" in line
    assert NEW in line


def test_records_that_retention_took_are_named_with_the_command(lake: Lake) -> None:
    (line,) = found(lake, there={"sensor-readings": {0: (36, 50)}, "anomalies": {}, "window-ticks": {}})
    assert "partition 0: offsets 30 to 35" in line
    assert "`gridwatch skip-range 0:30-35`" in line


def test_a_batch_that_is_stored_but_not_finished_loses_nothing_when_kafka_forgets_it(lake: Lake) -> None:
    lake.archive(3, until="audit")
    (line,) = found(lake, there={"sensor-readings": {0: (40, 50)}, "anomalies": {}, "window-ticks": {}})
    assert NEW in line
    assert "skip-range" not in line


def test_a_topic_that_ends_before_the_checkpoint_is_refused(lake: Lake) -> None:
    (line,) = found(lake, there={"sensor-readings": {0: (0, 12)}, "anomalies": {}, "window-ticks": {}})
    assert "partition 0 of topic sensor-readings ends at 12, the checkpoint at 30" in line


def test_lost_anomalies_are_named(lake: Lake) -> None:
    lake.log("incidents", "offsets", 0, {"anomalies": {"0": 5}, "window-ticks": {"0": 1}})
    lake.log("incidents", "commits", 0, {})
    there = {"sensor-readings": {0: (0, 40)}, "anomalies": {0: (9, 20)}, "window-ticks": {0: (0, 5)}}
    (line,) = found(lake, there=there)
    assert "topic anomalies has lost anomalies before they were stored: partition 0: offsets 5 to 8" in line


def test_lost_anomalies_are_named_by_the_position_in_the_tables(lake: Lake) -> None:
    """The checkpoint of Spark's query, which has none any more, does not count once there is one."""
    lake.log("incidents", "offsets", 0, {"anomalies": {"0": 5}, "window-ticks": {"0": 1}})
    (lake.folder / "incidents" / "metadata").unlink()
    position = Position({"anomalies": {0: 7}, "window-ticks": {0: 1}}, None, 3)
    commit_position(lake.settings, lake.record.generation, position, Position())
    there = {"sensor-readings": {0: (0, 40)}, "anomalies": {0: (9, 20)}, "window-ticks": {0: (0, 5)}}
    (line,) = found(lake, there=there)
    assert "partition 0: offsets 7 to 8" in line
    assert found(lake, there=there | {"anomalies": {0: (7, 20)}}) == []


def test_a_damaged_checkpoint_that_the_incidents_must_take_over_is_refused(lake: Lake) -> None:
    lake.log("incidents", "offsets", 0, {"anomalies": {"0": 5}})
    (lake.folder / "incidents" / "metadata").unlink()
    assert "incidents/metadata is missing: restore the checkpoint" in found(lake)[0]


def test_a_new_partition_is_no_problem(lake: Lake) -> None:
    there = {"sensor-readings": {0: (0, 40), 1: (0, 7)}, "anomalies": {}, "window-ticks": {}}
    assert found(lake, there=there) == []


def test_a_checkpoint_whose_windows_came_from_readings_is_refused(lake: Lake) -> None:
    lake.record = replace(lake.record, start=Start(panes_version=None))
    (line,) = found(lake)
    assert "was made by an earlier version" in line
    assert "`gridwatch upgrade`" in line


def test_a_record_of_an_earlier_version_without_checkpoints_goes_on(tmp_path: Path) -> None:
    lake = Lake(settings_in(tmp_path)).make(batches=0)
    lake.record = replace(lake.record, start=Start(panes_version=None))
    assert found(lake) == []
    assert complete(lake.record, lake.facts()).start.panes_version == 0


class TestRecord:
    def test_it_is_read_as_it_was_written(self, tmp_path: Path, lake: Lake) -> None:
        start = Start({0: 5}, NOON, NOON, 7, {0: 1})
        record = replace(lake.record, number=3, start=start)
        write_record(lake.files, record)
        assert read_record(lake.files) == record
        assert record.folder("archive") == "generation-3/archive"

    def test_one_of_the_first_version_is_opened(self, tmp_path: Path, lake: Lake) -> None:
        (lake.folder / RUN_RECORD).write_text('{"generation": "g"}')
        record = read_record(lake.files)
        assert record is not None
        assert (record.generation, record.number, record.folder("windows")) == ("g", 1, "windows")
        assert record.shape == {}
        assert record.start.panes_version is None

    def test_one_of_a_newer_version_and_a_damaged_one_are_refused(self, lake: Lake) -> None:
        (lake.folder / RUN_RECORD).write_text('{"generation": "g", "format": 99}')
        with pytest.raises(DataRefused, match="written by a newer version"):
            read_record(lake.files)
        (lake.folder / RUN_RECORD).write_text('{"generation"')
        with pytest.raises(DataRefused, match="is damaged: restore it"):
            read_record(lake.files)


class TestTables:
    def test_the_owner_is_claimed_once(self, lake: Lake) -> None:
        assert owner_of(lake.settings) == lake.record.generation
        version = open_table(lake.settings, AUDIT).version()
        claim(lake.settings, lake.record.generation)
        assert open_table(lake.settings, AUDIT).version() == version

    def test_columns_of_this_version_are_added_to_older_tables(self, tmp_path: Path) -> None:
        settings = settings_in(tmp_path)
        older = replace(AUDIT, columns=AUDIT.columns[:-1])
        from pipelines import small_tables

        small_tables._create(settings, older)
        assert add_columns(settings) == ["audit.judged_until"]
        assert add_columns(settings) == []

    def test_a_column_of_another_type_and_an_unknown_one_are_refused(self, tmp_path: Path) -> None:
        from pipelines import small_tables

        settings = settings_in(tmp_path)
        wrong = replace(
            READINGS, columns=(replace(READINGS.columns[0], type=AUDIT.columns[1].type), *READINGS.columns[1:])
        )
        small_tables._create(settings, wrong)
        with pytest.raises(DataRefused, match=r"table readings of .* has meter_id as long, this version as string"):
            add_columns(settings)

    def test_the_files_of_a_checkpoint_are_replaced_whole(self, tmp_path: Path) -> None:
        files = CheckpointFiles(settings_in(tmp_path))
        assert files.text("a/b") is None
        assert files.names("a") == set()
        files.write("a/b", "one")
        (Path(files.root) / "a/.b.crc").write_bytes(b"of the first text")
        files.write("a/b", "two")
        assert (files.text("a/b"), files.names("a")) == ("two", {"b"})
