"""`check` shows every value with its source and hides secrets; `describe` shows what a job would do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines import describe, kafka_probe, lake_probe, topics
from pipelines.cli.main import main
from pipelines.cli.settings import MASK
from pipelines.errors import DataRefused, InfrastructureUnavailable, SettingsError
from pipelines.lake_probe import probe_lake
from pipelines.settings import Settings
from pipelines.settings_load import known_environment_names, setting_fields
from pipelines.tables import TABLES

NOWHERE = "kafka.bootstrap_servers=127.0.0.1:1"


@pytest.fixture
def reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kafka answers and has the topics; tests/integration/test_check.py asks a real one."""
    monkeypatch.setattr(topics, "wait_for_kafka", lambda kafka, say: None)
    monkeypatch.setattr(kafka_probe, "topic_facts", lambda settings: [])
    monkeypatch.setattr(kafka_probe, "broker_clock", lambda settings: (True, "agrees"))
    monkeypatch.setattr(topics, "check_topics", lambda settings: None)


def check(capsys: pytest.CaptureFixture[str], *assignments: str) -> tuple[int, dict[str, Any]]:
    arguments = [word for one in assignments for word in ("--set", one)]
    code = main(["check", "--json", *arguments])
    return code, json.loads(capsys.readouterr().out)


def lake(folder: Path) -> str:
    return f"lake.root={folder / 'lake'}"


@pytest.mark.usefixtures("reachable")
def test_all_is_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check(capsys, lake(tmp_path))
    assert code == 0
    assert said["ok"]
    assert [(c["name"], c["result"]) for c in said["checks"]] == [
        ("kafka", "ok"),
        ("topics", "ok"),
        ("topic settings", "ok"),
        ("permissions", "ok"),
        ("broker clock", "ok"),
        ("lake", "ok"),
        ("meters", "warning"),
    ]
    assert not (tmp_path / "lake").exists()


@pytest.mark.usefixtures("reachable")
def test_every_value_has_its_source_and_secrets_are_masked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDWATCH_STORE__SECRET_KEY", "hunter2")
    _, said = check(capsys, lake(tmp_path), "detection.sigma=3")
    values = said["settings"]
    assert set(values) == {name for name, _ in setting_fields()}
    assert values["detection.sigma"] == {"value": 3.0, "source": "--set"}
    assert values["detection.peers"]["source"] == "default"
    assert values["detection.cadence_s"]["source"].endswith("gridwatch.toml")
    assert values["store.secret_key"] == {"value": MASK, "source": "environment"}
    assert values["store.access_key"]["value"] is None


@pytest.mark.usefixtures("reachable")
def test_the_table_shows_units_and_what_auto_comes_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDWATCH_STORE__SECRET_KEY", "hunter2")
    main(["check", "--set", lake(tmp_path), "--set", "detection.cadence_s=60"])
    said = capsys.readouterr().out
    lines = {line.split()[0]: " ".join(line.split()) for line in said.splitlines() if line.strip()}
    assert lines["detection.window"] == "detection.window auto = 15 min default"
    assert lines["kafka.retention"] == "kafka.retention 7 d default"
    assert lines["store.secret_key"] == f"store.secret_key {MASK} environment"
    assert "hunter2" not in said


def test_no_kafka_is_exit_code_4_and_topics_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = check(capsys, lake(tmp_path), NOWHERE, "kafka.connect_timeout=1")
    assert code == 4
    assert [c["result"] for c in said["checks"]] == ["failed", "skipped", "ok", "warning"]
    assert "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS" in said["checks"][0]["detail"]


@pytest.mark.usefixtures("reachable")
@pytest.mark.parametrize(("error", "code"), [(SettingsError("no topic"), 2), (DataRefused("CreateTime"), 3)])
def test_what_is_wrong_with_the_topics_decides_the_exit_code(
    error: Exception,
    code: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(settings: Settings) -> None:
        raise error

    monkeypatch.setattr(topics, "check_topics", refuse)
    found, said = check(capsys, lake(tmp_path))
    assert (found, said["checks"][1]["detail"]) == (code, str(error))


@pytest.mark.usefixtures("reachable")
def test_a_lake_that_cannot_be_a_folder_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code, said = check(capsys, f"lake.root={tmp_path / 'file' / 'lake'}")
    assert code == 2
    assert "set lake.root to one you may write" in next(c for c in said["checks"] if c["name"] == "lake")["detail"]


def test_a_setting_that_is_refused_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--set", "detection.sigma=9"]) == 2
    assert capsys.readouterr().err.startswith("gridwatch: detection.sigma = 9 (from --set)")


def test_names_lists_the_environment_variables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--names"]) == 0
    assert set(capsys.readouterr().out.split()) == known_environment_names()


def test_probing_a_folder_leaves_nothing_behind(tmp_path: Path) -> None:
    settings = Settings.model_validate({"lake": {"root": str(tmp_path)}})
    assert "can be written and read" in probe_lake(settings)
    assert not list(tmp_path.iterdir())


def test_a_store_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lake_probe, "_ATTEMPTS", 1)
    store = {"endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": "hunter2"}
    settings = Settings.model_validate({"lake": {"root": "s3a://b/lake"}, "store": store})
    with pytest.raises(InfrastructureUnavailable, match=r"s3a://b/lake' at http://127\.0\.0\.1:1: NETWORK") as caught:
        probe_lake(settings)
    assert "hunter2" not in str(caught.value)


def test_the_jars_are_those_of_the_conf_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", "--jars"]) == 0
    assert any(line.startswith("io.delta:delta-spark") for line in capsys.readouterr().out.split())


def test_describe_shows_messages_tables_and_plans(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(describe, "plans", lambda settings: iter([("archive", "== Physical Plan ==")]))
    assert main(["describe"]) == 0
    said = capsys.readouterr()
    assert all(f"table {name}: " in said.out for name in TABLES)
    assert "message SensorReading on topic sensor-readings" in said.out
    assert "physical plan of query archive" in said.out
    assert "starting Spark" in said.err
