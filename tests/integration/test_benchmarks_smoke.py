"""The short form of the benchmarks: gridwatch, its alerts, plain Spark and Kafka Streams give the model's answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main

# A loaded machine is slow, never wrong.
pytestmark = [pytest.mark.benchmarks, pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_engine_of_the_smoke_run_finds_what_the_model_says(tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    assert main(["smoke", "--report", str(report), "--dir", str(tmp_path / "run")]) == 0
    found = json.loads(report.read_text(encoding="utf-8"))
    assert set(found["smoke"]) == {"gridwatch", "alerts", "plain", "kafka_streams"}
    assert all(run["readings_per_s"] > 0 for run in found["smoke"].values())
    assert found["machine"]["cores"] > 0
    assert found["versions"]["pyspark"]
