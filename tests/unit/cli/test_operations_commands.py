"""doctor, checkpoint and skip-range without Kafka: each says what is missing, with the exit code that fits."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.doctor import look_at_kafka_port
from pipelines.errors import InfrastructureUnavailable
from pipelines.identity.lock import CheckpointLock
from pipelines.local.ports import free_port
from tests.unit.identity.lakes import Lake, settings_in


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A lake and a checkpoint of an earlier run, and a broker that is not there."""
    settings = Lake(settings_in(tmp_path)).make().settings
    return [
        "--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={settings.pipeline.checkpoint}",
        "--set", f'kafka.bootstrap_servers="127.0.0.1:{free_port()}"', "--set", "kafka.connect_timeout=1",
    ]  # fmt: skip


def test_the_doctor_names_what_fails_and_skips_what_needs_it(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--json", *words]) == 4
    said = json.loads(capsys.readouterr().out)
    results = {check["name"]: check["result"] for check in said["checks"]}
    assert results == {
        "java": "ok", "memory": "ok", "kafka port": "failed", "broker": "skipped", "topics": "skipped", "store": "ok",
        "broker clock": "skipped", "tables": "ok", "alerts": "skipped", "checkpoint": "ok",
        "identity": "skipped",
    }  # fmt: skip
    (port,) = [check["detail"] for check in said["checks"] if check["name"] == "kafka port"]
    assert "Connection refused; start the server" in port
    assert not said["ok"]


def test_the_doctor_names_broker_and_store_when_both_are_down(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    store = f"127.0.0.1:{free_port()}"
    place = ["--set", "lake.root=s3a://grid/lake", "--set", f'store.endpoint="http://{store}"']
    assert main(["doctor", "--json", *words, *place]) == 4
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["kafka port"]["detail"].startswith("kafka.bootstrap_servers: 127.0.0.1:")
    assert checks["store port"]["detail"].startswith(f"store.endpoint: {store}: Connection refused")
    assert (checks["store"]["result"], checks["store"]["detail"]) == ("skipped", "needs store port")
    assert checks["store clock"]["detail"] == "needs store port"


def test_the_doctor_says_who_uses_the_checkpoint(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with CheckpointLock(settings_in(tmp_path), "gridwatch run"):
        assert main(["doctor", *words]) == 4
    assert "generation 1 (" in (said := capsys.readouterr().out)
    assert "in use by `gridwatch run`, process" in said


def test_more_memory_than_there_is_is_found(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--set", "pipeline.driver_memory=9000g", *words]) == 2
    assert "pipeline.driver_memory = 9000g" in capsys.readouterr().out


def test_a_checkpoint_where_nobody_can_write_is_found(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    place = ["--set", f"pipeline.checkpoint={tmp_path / 'file' / 'checkpoint'}"]
    main(["doctor", "--json", *words, *place])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert checks["checkpoint"]["result"] == "failed"


def test_one_broker_that_can_be_connected_to_is_enough(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        there, gone = f"127.0.0.1:{server.getsockname()[1]}", f"127.0.0.1:{free_port()}"
        said = look_at_kafka_port(settings_in(tmp_path, kafka={"bootstrap_servers": f"{gone},{there}"}))
    assert f"{gone} cannot (Connection refused), {there} can be connected to" in said
    with pytest.raises(InfrastructureUnavailable, match=rf"{gone}: Connection refused, {there}: .*; start the server"):
        look_at_kafka_port(settings_in(tmp_path, kafka={"bootstrap_servers": f"{gone},{there}"}))


def test_the_record_is_shown(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["checkpoint", "show", *words]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["number"] == 1
    assert record["shape"]["detection.window"] == "5 min"
    assert len(record["shape_hash"]) == 64
    assert main(["checkpoint", "show", *words, "--set", f"pipeline.checkpoint={tmp_path / 'empty'}"]) == 2


@pytest.mark.parametrize(
    "command", [["checkpoint", "new-generation"], ["skip-range", "0:30-40"]], ids=lambda words: words[0]
)
def test_commands_that_write_need_kafka_and_the_lock(
    command: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *words]) == 4
    assert "no broker answers within 1 s" in capsys.readouterr().err
    with CheckpointLock(settings_in(tmp_path), "gridwatch run"):
        assert main([*command, *words]) == 3
    assert "in use by `gridwatch run`" in capsys.readouterr().err


def test_a_range_that_is_none_is_refused_at_once(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["skip-range", "0:9", *words]) == 2
    assert "partition:first-last, for example 0:100-199" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["checkpoint", "new-generation", "--from-offsets", "banana"], "--from-offsets banana: give tables, or"),
        (["checkpoint", "new-generation", "--from-offsets", "0:5,0:7"], "name each partition once"),
        (["skip-range", "0:30-40", "0:40-45"], "0:30-40 and 0:40-45 overlap"),
        (["skip-range", "0:30-40", "--why", " "], "give the reason that audit will hold"),
    ],
)
def test_wrong_arguments_are_refused_before_kafka_is_asked(
    command: list[str], says: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, *words]) == 2
    assert says in (said := capsys.readouterr().err)
    assert "waiting" not in said


def test_a_refused_command_leaves_no_folder(words: list[str], tmp_path: Path) -> None:
    assert main(["skip-range", "0:30-40", *words, "--set", f"pipeline.checkpoint={tmp_path / 'new' / 'c'}"]) == 4
    assert not (tmp_path / "new").exists()
