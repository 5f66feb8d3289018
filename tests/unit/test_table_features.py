"""Features of Delta are pinned: what a table has after creation, and what happens to one that has another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import TableFeatures

from pipelines.cli.main import main
from pipelines.errors import DataRefused
from pipelines.identity.generation import SkippedRange, new_generation, skip_ranges
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, open_table
from pipelines.table_features import ALLOWED, features_of, foreign_features, require_known_features
from pipelines.tables import AUDIT, INCIDENTS, PROFILES, READINGS, REPLAYS, TABLES, Table, table_path
from pipelines.upkeep import look_after
from tests.unit.identity.lakes import Lake, settings_in

TURNED_ON = {
    "deletionVectors": TableFeatures.DeletionVectors,
    "v2Checkpoint": TableFeatures.V2Checkpoint,
    "columnMapping": TableFeatures.ColumnMapping,
    "changeDataFeed": TableFeatures.ChangeDataFeed,
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """All tables, empty."""
    here = settings_in(tmp_path)
    create_tables(here)
    return here


def protocols(settings: Settings, table: Table) -> list[dict[str, object]]:
    """What the files of a table's log say of the protocol, read without any library of Delta."""
    log = Path(table_path(settings.lake.root, table.name), "_delta_log")
    actions = [json.loads(line) for file in sorted(log.glob("*.json")) for line in file.read_text().splitlines()]
    return [action["protocol"] for action in actions if "protocol" in action]


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_a_new_table_has_exactly_the_allowed_features(settings: Settings, table: Table) -> None:
    assert protocols(settings, table) == [{"minReaderVersion": 1, "minWriterVersion": 2}]
    assert features_of(settings, table) == ALLOWED


def test_batches_an_owner_and_upkeep_add_no_feature(tmp_path: Path) -> None:
    settings = Lake(settings_in(tmp_path)).make(batches=12).settings
    for table in TABLES.values():
        look_after(settings, table, thorough=True)
    assert {name: features_of(settings, table) for name, table in TABLES.items()} == dict.fromkeys(TABLES, ALLOWED)


@pytest.mark.parametrize("name", TURNED_ON)
def test_a_feature_that_was_turned_on_is_refused_by_name(settings: Settings, name: str) -> None:
    require_known_features(settings)
    open_table(settings, INCIDENTS).alter.add_feature(TURNED_ON[name], allow_protocol_versions_increase=True)
    with pytest.raises(DataRefused, match=rf"^table incidents of .* has {name}, .*: take the table back"):
        require_known_features(settings)
    assert len(list(foreign_features(settings))) == 1


def test_a_feature_that_an_older_protocol_implies_is_refused_too(settings: Settings) -> None:
    """Writer version 4 stands for the features of 2, 3 and 4; no list is in the log then."""
    raise_protocol(settings, READINGS, {"minReaderVersion": 1, "minWriterVersion": 4})
    assert features_of(settings, READINGS) == ALLOWED | {"checkConstraints", "changeDataFeed", "generatedColumns"}
    assert [line.partition(",")[0] for line in foreign_features(settings)] == [
        f"table readings of {settings.lake.root} has changeDataFeed"
    ]


def test_a_feature_that_the_library_itself_does_not_know_is_refused_and_no_outage(settings: Settings) -> None:
    listed = {"readerFeatures": ["ofTomorrow"], "writerFeatures": ["ofTomorrow"]}
    raise_protocol(settings, INCIDENTS, {"minReaderVersion": 3, "minWriterVersion": 7, **listed})
    with pytest.raises(DataRefused, match="'ofTomorrow' is not supported, which not every reader"):
        require_known_features(settings)


COMMANDS = {
    "maintain": (["maintain"], READINGS),
    "recompute": (["recompute", "--from", "2026-03-01", "--to", "2026-03-02"], INCIDENTS),
    "recompute --dry-run": (["recompute", "--from", "2026-03-01", "--to", "2026-03-02", "--dry-run"], INCIDENTS),
    "profiles": (["profiles"], PROFILES),
    "dlq replay": (["dlq", "replay", "--reason", "not_utf8"], REPLAYS),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_begins_to_write_a_table_with_a_foreign_feature(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words, table = COMMANDS[name]
    settings = Lake(settings_in(tmp_path)).make().settings
    open_table(settings, table).alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    before = versions(settings)
    place = [f"lake.root={settings.lake.root}", f"pipeline.checkpoint={settings.pipeline.checkpoint}"]
    assert main([*words, *(part for one in place for part in ("--set", one))]) == 3
    assert f"table {table.name} of {settings.lake.root} has deletionVectors" in capsys.readouterr().err
    assert versions(settings) == before


def test_a_table_of_another_command_is_no_reason_to_refuse(settings: Settings) -> None:
    open_table(settings, INCIDENTS).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    require_known_features(settings, [PROFILES, REPLAYS])


@pytest.mark.parametrize(
    "begin",
    [
        lambda settings: new_generation(settings, {}, rebuild=False, say=print),
        lambda settings: new_generation(settings, {}, rebuild=True, say=print),
        lambda settings: skip_ranges(settings, [SkippedRange(0, 0, 4)], why="x", say=print),
    ],
    ids=["new-generation", "new-generation --rebuild", "skip-range"],
)
def test_no_generation_begins_on_a_table_with_a_foreign_feature(
    begin: Callable[[Settings], object], settings: Settings
) -> None:
    """Kafka, which is not there, is not asked."""
    listed = {"readerFeatures": ["ofTomorrow"], "writerFeatures": ["ofTomorrow"]}
    raise_protocol(settings, AUDIT, {"minReaderVersion": 3, "minWriterVersion": 7, **listed})
    with pytest.raises(DataRefused, match=r"table audit of .* 'ofTomorrow' is not supported"):
        begin(settings)


def test_the_doctor_names_every_table_with_a_foreign_feature(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for table in (READINGS, INCIDENTS):
        open_table(settings, table).alter.add_feature(
            TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
        )
    place = ["--set", f"lake.root={settings.lake.root}", "--set", "kafka.connect_timeout=1"]
    main(["doctor", "--json", *place, "--set", 'kafka.bootstrap_servers="127.0.0.1:1"'])
    (found,) = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "tables"]
    assert (found["result"], found["exit_code"]) == ("failed", 3)
    assert "table readings of" in found["detail"]
    assert "; and table incidents of" in found["detail"]


def versions(settings: Settings) -> dict[str, int]:
    return {name: open_table(settings, table).version() for name, table in TABLES.items()}


def raise_protocol(settings: Settings, table: Table, protocol: dict[str, object]) -> None:
    """One more version of a table, as a program that turned a feature on leaves it."""
    log = Path(table_path(settings.lake.root, table.name), "_delta_log")
    (log / f"{1:020d}.json").write_text(json.dumps({"protocol": protocol}) + "\n", encoding="utf-8")
