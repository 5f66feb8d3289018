"""The parts by hand: what is printed can be pasted into a shell; stopping what does not run is no error."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipelines import topics
from pipelines.cli.main import main
from pipelines.local import broker, objectstore


@dataclass
class Part:
    """Stands for a part that runs."""

    bootstrap_servers: str = "127.0.0.1:1234"
    endpoint: str = "http://127.0.0.1:1234"
    buckets: list[str] = field(default_factory=list)

    def create_bucket(self, name: str) -> None:
        self.buckets.append(name)


def test_the_broker_says_what_to_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[tuple[Path, int | None]] = []
    monkeypatch.setattr(
        broker, "start_detached_broker", lambda folder, port, say: started.append((folder, port)) or Part()
    )
    assert main(["broker", "start", "--port", "1234", "--dir", str(tmp_path)]) == 0
    assert started == [(tmp_path, 1234)]
    assert capsys.readouterr().out.splitlines() == [
        "export GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS=127.0.0.1:1234",
        "gridwatch topics create",
    ]


def test_the_object_store_gets_its_bucket_and_never_prints_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Part()
    monkeypatch.setattr(objectstore, "start_detached_objectstore", lambda folder, port, say: store)
    folder = tmp_path / "a folder"
    assert main(["objectstore", "start", "--dir", str(folder)]) == 0
    assert store.buckets == ["gridwatch"]
    assert capsys.readouterr().out.splitlines() == [
        f"set -a; . '{folder}/objectstore.env'; set +a",
        "export GRIDWATCH_LAKE__ROOT=s3a://gridwatch/lake",
    ]


@pytest.mark.parametrize("part", ["broker", "objectstore"])
def test_stopping_what_does_not_run_says_so(part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([part, "stop", "--dir", str(tmp_path)]) == 0
    assert f"of {tmp_path} runs" in capsys.readouterr().err


@pytest.mark.parametrize("port", ["80", "70000", "x"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["broker", "start", "--port", port])
    assert ended.value.code == 2
    assert "1024 to 65535" in capsys.readouterr().err


def test_topics_create_says_what_was_made_and_what_was_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(topics, "wait_for_kafka", lambda kafka, say: None)
    monkeypatch.setattr(topics, "create_topics", lambda settings: ["incidents"])
    assert main(["topics", "create"]) == 0
    created, there = capsys.readouterr().out.splitlines()
    assert created == "created: incidents"
    names = "sensor-readings, anomalies, window-ticks, dead-letter-queue"
    assert there == f"already there: {names}, operator-actions"
