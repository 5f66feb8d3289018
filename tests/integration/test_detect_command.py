"""`gridwatch detect` and `evaluate` as a user runs them: files in, files out, on a machine without Java."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables
from pipelines.tables import INCIDENTS, METERS, READINGS
from tests.rule_scenarios import feeder, fleet, rows, subject


def gridwatch(*words: object) -> subprocess.CompletedProcess[str]:
    """Run the command where no Java can be found, and give back what it said."""
    command = [sys.executable, "-m", "pipelines", *map(str, words)]
    without_java = {**os.environ, "PATH": "/nowhere", "JAVA_HOME": "/nowhere"}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=without_java)


def test_files_in_incidents_out_and_scored(tmp_path: Path) -> None:
    meters = feeder("undervoltage", "f1")
    frame = pd.DataFrame(rows(meters))
    frame.loc[len(frame)] = {"meter_id": None, "ts": frame["ts"][0], "voltage_v": 230.0}
    frame = pd.concat([frame, frame.iloc[:3]])
    readings, known, results = tmp_path / "readings.csv", tmp_path / "fleet.csv", tmp_path / "out"
    frame.to_csv(readings, index=False)
    pd.DataFrame(fleet(meters)).to_csv(known, index=False)
    told = gridwatch("detect", "--readings", readings, "--fleet", known, "--out", results)
    assert told.returncode == 0, told.stderr
    assert "cadence: 60 s" in told.stderr
    assert f"{len(frame):,} readings, 1 refused, 3 repeated" in told.stderr
    assert sorted(path.name for path in results.iterdir()) == [
        "anomalies.parquet",
        "incidents.parquet",
        "windows.parquet",
    ]
    incidents = pq.read_table(results / "incidents.parquet")
    assert incidents.schema.equals(arrow_schema(INCIDENTS))
    (incident,) = incidents.to_pylist()
    assert (incident["meter_id"], incident["anomaly_type"], incident["alerts"]) == (subject("f1"), "undervoltage", 1)
    labels, report = tmp_path / "labels.csv", tmp_path / "report.json"
    labels.write_text(f"kind,scope,meter_id,start,end\nsag,meter,{subject('f1')},2026-03-02 12:45,2026-03-02 12:49\n")
    told = gridwatch(
        "evaluate", "--results", results, "--readings", readings, "--fleet", known, "--labels", labels,
        "--report", report, "--plots", tmp_path / "plots",
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    assert json.loads(report.read_text())["gridwatch"]["all"]["f1"] == 1.0
    assert (tmp_path / "plots" / "alarms-per-day.svg").exists()


def test_a_file_without_voltages_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv"
    path.write_text("meter_id,ts\nm,2026-03-02T12:00:00Z\n")
    told = gridwatch("detect", "--readings", path, "--out", tmp_path / "out")
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "no column voltage_v" in told.stderr


def test_the_archive_is_judged_again_without_java(tmp_path: Path) -> None:
    """Profiles need a full day, so the hour of this archive gives none; the backtest finds what the file holds."""
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(settings)
    meters = feeder("undervoltage", "f1")
    known = [{**row, "transformer_id": None, "region": None, "meter_class": None} for row in fleet(meters)]
    append_rows(pa.Table.from_pylist(known, schema=arrow_schema(METERS)), settings, METERS)
    archived = {"is_late": False, "is_resent": False, "kafka_topic": "t", "kafka_partition": 0}
    readings = [
        {**row, **archived, "event_ts": row["ts"], "event_date": row["ts"].date(), "kafka_offset": number}
        for number, row in enumerate(rows(meters))
    ]
    append_rows(pa.Table.from_pylist(readings, schema=arrow_schema(READINGS)), settings, READINGS)
    lake = ("--set", f"lake.root={settings.lake.root}", "--set", "detection.cadence_s=60")
    told = gridwatch("backtest", "--from", "2026-03-02", "--to", "2026-03-03", *lake)
    assert told.returncode == 0, told.stderr
    assert "undervoltage" in told.stdout
    told = gridwatch("profiles", *lake)
    assert told.returncode == 0, told.stderr
    assert "meter_windows is empty" in told.stderr
