"""A lake and a checkpoint of the version before are refused in one line, and upgraded without losing a record."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from pipelines.cli.main import main
from pipelines.errors import DataRefused
from pipelines.identity.check import examine
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import read_record
from pipelines.identity.tables import noted_start, owner_of
from pipelines.identity.upgrade import plan_upgrade
from pipelines.jobs.pipeline import prepare
from pipelines.local.broker import RunningBroker
from pipelines.small_tables import count_rows, read_rows, table_is_there
from pipelines.tables import AUDIT, PANES, READINGS
from pipelines.topics import topic_ids
from tests.integration.support import Place
from tests.unit.identity.older_lake import NEW_COLUMNS, make_older_lake

RECORDS = 50


@pytest.fixture
def place(kafka: RunningBroker, tmp_path: Path) -> Iterator[Place]:
    """Kafka holds fifty records; the older lake counts thirty and holds ten more that no audit row counts."""
    here = Place(tmp_path, kafka.bootstrap_servers).with_settings(kafka__partitions=1)
    here.create_topics()
    producer = KafkaProducer(bootstrap_servers=here.bootstrap_servers, acks="all")
    for _ in range(RECORDS):
        producer.send(here.settings.kafka.topics.readings, b"{}", partition=0)
    producer.close()
    topics = here.settings.kafka.topics
    make_older_lake(here.settings, topic_ids(here.settings.kafka, (topics.readings, *topics.of_incidents)))
    return here


def command(place: Place, *words: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run a command in the place; returns its lines on standard output."""
    file = place.folder / "settings.toml"
    names = place.settings.model_dump(mode="json")
    topics = "".join(f'{name} = "{topic}"\n' for name, topic in names["kafka"]["topics"].items())
    file.write_text(
        f'[lake]\nroot = "{place.settings.lake.root}"\n'
        f'[pipeline]\ncheckpoint = "{place.settings.pipeline.checkpoint}"\n'
        f'[kafka]\nbootstrap_servers = "{place.bootstrap_servers}"\npartitions = 1\n[kafka.topics]\n{topics}'
    )
    capsys.readouterr()
    assert main([*words, "--settings", str(file)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.splitlines()


def test_run_refuses_it_in_one_line_before_it_changes_anything(place: Place) -> None:
    with pytest.raises(DataRefused, match="was made by an earlier version: `gridwatch upgrade` says") as refusal:
        prepare(place.settings, print)
    assert "\n" not in str(refusal.value)
    assert not table_is_there(place.settings, PANES)
    assert examine(place.settings)[0] == str(refusal.value)


def test_without_yes_it_says_what_is_due_and_changes_nothing(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(str(file) for file in place.folder.rglob("*") if file.is_file())
    said = command(place, "upgrade", capsys=capsys)
    assert [line[:3] for line in said[:4]] == ["1. ", "2. ", "3. ", "4. "]
    for table, columns in NEW_COLUMNS.items():
        assert all(f"{table.name}.{column}" in said[0] for column in columns)
    assert "panes" in said[1]
    assert "where the alerts begin" in said[2]
    assert "new generation" in said[3]
    assert any("alerts-mode" in line for line in said[4:])
    assert "`gridwatch upgrade --yes`" in said[-1]
    (place.folder / "settings.toml").unlink()
    assert sorted(str(file) for file in place.folder.rglob("*") if file.is_file()) == before


def test_with_yes_it_goes_on_from_the_tables_and_loses_nothing(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    command(place, "upgrade", "--yes", capsys=capsys)
    settings = place.settings
    record = read_record(CheckpointFiles(settings))
    assert record is not None
    assert (record.number, record.start.offsets, owner_of(settings)) == (2, {0: 30}, record.generation)
    assert record.start.panes_version is not None
    # What no audit row counts is taken back and read again, from the offset behind the last one that is counted.
    assert sorted(read_rows(settings, READINGS)["kafka_offset"].to_pylist()) == list(range(30))
    assert count_rows(settings, AUDIT) == 3
    assert read_rows(settings, READINGS)["kafka_item"].null_count == 30
    assert examine(settings) == []
    # The alerts job had been given the work at offset 20, and its checkpoint is not there.
    assert noted_start(settings) == {0: 20}
    report = place.verify()
    assert report.ok, report.verdict
    assert report.lag == RECORDS - 30


def test_a_table_that_has_vanished_is_not_made_again_empty(place: Place) -> None:
    shutil.rmtree(place.folder / "lake" / "meter_windows")
    with pytest.raises(DataRefused, match=r"table meter_windows of .* is gone"):
        plan_upgrade(place.settings, print)


def test_once_more_nothing_is_due(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    command(place, "upgrade", "--yes", capsys=capsys)
    generation = read_record(CheckpointFiles(place.settings))
    said = command(place, "upgrade", "--yes", capsys=capsys)
    assert said[-1] == "nothing is due: lake and checkpoint are of this version"
    assert read_record(CheckpointFiles(place.settings)) == generation


def test_a_topic_that_only_an_earlier_version_used_is_named(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.create_topics([NewTopic("alert-heartbeats", num_partitions=1, replication_factor=1)])
    try:
        said = command(place, "upgrade", capsys=capsys)
        assert any(line.startswith("note: topic alert-heartbeats is no longer used") for line in said)
    finally:
        admin.delete_topics(["alert-heartbeats"])
        admin.close()
