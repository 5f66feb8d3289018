"""The command: exit codes, files, counts that agree."""

from __future__ import annotations

import ast
import gzip
import json
import socket
import threading
import zipfile
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import generator
from generator import outlet
from generator.__main__ import main
from generator.contracts import load_contract
from generator.files import write_files
from generator.progress import Progress
from generator.scenario import build_scenario
from generator.tally import Tally

SMALL = ["--meters", "60", "--rate", "2400", "--seconds", "6", "--start", "2026-03-01T12:00:00Z", "--quiet"]
WIDE = ["--malformed-share", "0.02", "--late-share", "0.01"]


def _summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "transport.jsonl").read_text().splitlines()]


def test_a_run_to_files_writes_all_its_files_and_counts_that_agree(tmp_path):
    assert main([*SMALL, *WIDE, "--raw", "--out", str(tmp_path)]) == 0
    summary, lines = _summary(tmp_path), _lines(tmp_path)
    readings = pd.read_parquet(tmp_path / "readings.parquet")
    raw = gzip.decompress((tmp_path / "raw.jsonl.gz").read_bytes()).decode().splitlines()
    kinds = Counter(line["kind"] for line in lines)
    assert list(readings) == ["meter_id", "ts", "voltage_v", "current_a", "temperature_c", "status"]
    assert str(readings.ts.dt.tz) == "UTC"
    assert not readings.duplicated(["meter_id", "ts"]).any()
    assert summary["readings"] == len(readings)
    assert summary["produced"] == len(raw) == len(readings) + kinds["duplicate"] + kinds["malformed"]
    assert (summary["resent"], summary["late"]) == (kinds["duplicate"], kinds["late"])
    assert summary["out_of_order"] == kinds["out_of_order"]
    assert summary["rejected"] == Counter(x["expected_reason"] for x in lines if x["expected_reason"])
    assert all(kinds.values())
    assert "interrupted" not in summary
    assert {"fleet.csv", "labels.csv"} <= {path.name for path in tmp_path.iterdir()}


def test_the_same_options_give_the_same_bytes(tmp_path):
    names = ("readings.parquet", "raw.jsonl.gz", "fleet.csv", "labels.csv", "transport.jsonl")
    for folder in ("one", "two"):
        assert main([*SMALL, "--raw", "--out", str(tmp_path / folder)]) == 0
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_plan_made_first_gives_the_run_made_later(tmp_path):
    assert main([*SMALL, "--plan-only", "--run-dir", str(tmp_path / "plan")]) == 0
    plan = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert {"data_start", "data_end", "closing_end", "watermark_s", "speed"} <= set(plan)
    later = ["--plan", str(tmp_path / "plan" / "plan.json"), "--out", str(tmp_path / "run"), "--quiet"]
    assert main(later) == 0
    assert (tmp_path / "run" / "labels.csv").read_bytes() == (tmp_path / "plan" / "labels.csv").read_bytes()
    assert _summary(tmp_path / "run")["data_end"] == plan["data_end"]


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--meters", "many", "--out", "x"],
        ["--out", "x", "--bootstrap-servers", "y:1"],
        ["--raw", "--bootstrap-servers", "y:1"],
        ["--plan", "p.json", "--meters", "3", "--out", "x"],
        ["--plan", "nowhere.json", "--out", "x"],
        ["--faults", "sagg", "--out", "x"],
        ["--start", "yesterday", "--out", "x"],
        ["--start", "2999-01-01", "--bootstrap-servers", "127.0.0.1:1", "--quiet"],
        ["--unknown", "--out", "x"],
    ],
)
def test_wrong_usage_ends_with_2_and_one_line(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS", raising=False)
    assert main(argv) == 2
    said = capsys.readouterr().err
    assert said.startswith("generator: ")
    assert said.count("\n") == 1
    assert "allowed: " in said


@pytest.mark.parametrize("option", [["--settings", "my.toml"], ["--settings=my.toml"], ["--set", "kafka.partitions=2"]])
def test_an_option_of_the_other_commands_is_answered_with_what_is_taken_instead(option, capsys):
    assert main([*SMALL, *option]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS in the environment, or --bootstrap-servers" in said


def test_a_broker_that_does_not_answer_ends_with_4_and_a_summary_of_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(outlet, "CONNECT_S", 0.5)
    monkeypatch.setattr(outlet, "ATTEMPT_MS", 300)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{unused.getsockname()[1]}"
        argv = ["--bootstrap-servers", servers, "--run-dir", str(tmp_path), "--faults", "none"]
        assert main(argv) == 4
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith(f"generator: Kafka at {servers} is not reachable: got ")
    assert _summary(tmp_path)["produced"] == 0
    assert "failed" in _summary(tmp_path)


def test_files_of_a_stopped_run_are_readable(make, tmp_path):
    scenario = build_scenario(make(meters=100, rate=4000.0, seconds=600.0, faults="none"))
    stop = threading.Event()
    stop.set()
    with Tally(scenario.network, tmp_path) as tally:
        assert not write_files(scenario, tmp_path, tally, Progress(scenario, quiet=True), stop, raw=True, odd=True)
    assert len(pd.read_parquet(tmp_path / "readings.parquet")) > 0
    assert gzip.decompress((tmp_path / "raw.jsonl.gz").read_bytes()).endswith(b"\n")


def test_the_contract_is_found_inside_a_zip(tmp_path):
    root = Path(generator.__file__).parent
    archive = tmp_path / "bundle.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        for source in root.glob("*.py"):
            bundle.write(source, f"generator/{source.name}")
        for source in (root.parent / "conf" / "contracts").glob("*.json"):
            bundle.write(source, f"conf/contracts/{source.name}")
    program = "from generator.contracts import load_contract as c; print(c('sensor_reading')['name'])"
    assert _python(program, archive, tmp_path) == load_contract("sensor_reading")["name"]


def _python(program: str, path: Path, folder: Path) -> str:
    import os
    import subprocess
    import sys

    environment = {**os.environ, "PYTHONPATH": str(path)}
    argv = [sys.executable, "-P", "-c", program]
    done = subprocess.run(argv, env=environment, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_generator_never_imports_the_pipelines():
    for source in Path(generator.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] == "pipelines" for name in names), source.name
