"""Upkeep on real tables: fewer and larger files, nothing lost, nothing young removed, only the owner may."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from pipelines import upkeep
from pipelines.cli.main import main
from pipelines.errors import SettingsError
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.lock import CheckpointLock
from pipelines.identity.record import new_record, read_record
from pipelines.jobs import queries
from pipelines.jobs.ending import Ending
from pipelines.jobs.upkeep_figures import show_upkeep
from pipelines.lake.delta import commit_files
from pipelines.lake.parquet import write_data_file
from pipelines.lake.store import object_store
from pipelines.observe.metrics import PipelineMetrics
from pipelines.readings.carry_out import plans_of
from pipelines.readings.plan import Plan
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.sinks import BatchId
from pipelines.small_tables import as_arrow, open_table, read_rows
from pipelines.tables import ANOMALIES, AUDIT, INCIDENTS, METER_WINDOWS, READINGS
from pipelines.upkeep import data_files, look_after
from tests.unit.identity.lakes import NOON, Lake, audit, reading, settings_in

DAY_S = 86400.0


@pytest.fixture(autouse=True)
def _forgotten() -> None:
    upkeep._vacuumed_at.clear()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Ten files of yesterday, three of today."""
    lake = Lake(settings_in(tmp_path, lake={"root": str(tmp_path / "lake"), "windows_retention_days": 5})).make(
        batches=0
    )
    for number in range(13):
        at = NOON if number < 10 else NOON + timedelta(days=1)
        row = reading(number, event_ts=at, event_date=at.date())
        lake.add(READINGS, [row], BatchId("g", "archive", number))
    return lake


def files_by_day(settings: Settings) -> dict[str, int]:
    found: dict[str, int] = {}
    for file in data_files(open_table(settings, READINGS), READINGS):
        found[str(file.partition)] = found.get(str(file.partition), 0) + 1
    return found


def test_a_closed_partition_becomes_one_file_and_the_open_one_is_left(lake: Lake) -> None:
    before = read_rows(lake.settings, READINGS).sort_by("kafka_offset")
    done = look_after(lake.settings, READINGS)
    assert files_by_day(lake.settings) == {"2026-03-01": 1, "2026-03-02": 3}
    assert (done.compacted_files, done.files) == (10, 4)
    assert read_rows(lake.settings, READINGS).sort_by("kafka_offset") == before
    assert look_after(lake.settings, READINGS).compacted_files == 0


def test_each_round_is_shown_in_the_metrics(lake: Lake) -> None:
    metrics = PipelineMetrics()
    value = metrics.registry.get_sample_value
    for _ in range(2):
        done = look_after(lake.settings, READINGS)
        show_upkeep(metrics, done)
    table = {"table": "readings"}
    assert value("gridwatch_maintained_files_total", table | {"what": "compacted"}) == 10
    assert value("gridwatch_table_files", table) == 4
    assert value("gridwatch_table_bytes", table) == done.bytes > 0
    assert value("gridwatch_last_maintenance_timestamp_seconds", table) == done.at > 0


def test_what_optimize_commits_is_no_news_for_a_stream(lake: Lake) -> None:
    """The windows stream the table: a compacted file must not look like new readings."""
    look_after(lake.settings, READINGS)
    history = open_table(lake.settings, READINGS).history()
    (commit,) = [c for c in history if c["operation"] == "OPTIMIZE"]
    log = Path(lake.settings.lake.root) / f"readings/_delta_log/{commit['version']:020}.json"
    assert '"dataChange":false' in log.read_text()
    assert '"dataChange":true' not in log.read_text()


def test_a_table_without_partitions_is_compacted_when_it_has_many_files(lake: Lake) -> None:
    for number in range(60):
        lake.add(AUDIT, [audit(BatchId("g", "archive", number))], BatchId("g", "archive", number))
    done = look_after(lake.settings, AUDIT)
    assert (done.compacted_files, done.files) == (60, 1)
    assert read_rows(lake.settings, AUDIT).num_rows == 60
    assert open_table(lake.settings, AUDIT).transaction_version("gridwatch/g/archive/audit") == 59


def test_windows_older_than_the_retention_go_by_whole_days_and_readings_stay(lake: Lake) -> None:
    for number, days in enumerate((0, 3, 9, 10)):
        lake.window(NOON + timedelta(days=days), number)
    now = (NOON + timedelta(days=10)).timestamp()
    root = Path(lake.settings.lake.root) / "meter_windows"
    assert look_after(lake.settings, METER_WINDOWS, now=now).expired_files == 0, "its files are young"
    in_ten_days = (
        max(f.modified_at for f in data_files(open_table(lake.settings, METER_WINDOWS), METER_WINDOWS)) + 10 * DAY_S
    )
    done = look_after(lake.settings, METER_WINDOWS, now=in_ten_days)
    assert done.expired_files == 4
    assert look_after(lake.settings, READINGS, now=in_ten_days).expired_files == 0
    assert list(root.glob("window_date=*/*.parquet")), "VACUUM is a week away"


def test_leftovers_of_a_killed_writer_go_after_a_week_and_not_before(lake: Lake) -> None:
    orphan = Path(lake.settings.lake.root) / "readings/event_date=2026-03-01/part-0-killed.parquet"
    orphan.write_bytes(b"half a file")
    assert look_after(lake.settings, READINGS).vacuumed_files == 0
    assert orphan.exists()
    eight_days_ago = orphan.stat().st_mtime - 8 * DAY_S
    os.utime(orphan, (eight_days_ago, eight_days_ago))
    assert look_after(lake.settings, READINGS).vacuumed_files == 0, "once a day"
    assert look_after(lake.settings, READINGS, thorough=True).vacuumed_files == 1
    assert not orphan.exists()
    assert read_rows(lake.settings, READINGS).num_rows == 13


def test_files_of_the_newest_plan_stay_however_long_the_pipeline_was_down(lake: Lake) -> None:
    """The batch was planned, the process died before its commits, and the command ran eight days later."""
    settings = lake.settings
    row = reading(13, event_ts=NOON, event_date=NOON.date())
    frame = pl.DataFrame(as_arrow([tuple(row.get(name) for name in READINGS.column_names)], READINGS))
    files = [write_data_file(frame, READINGS, object_store(settings.lake.root, settings.store)) for _ in range(2)]
    plans = plans_of(settings, record := read_record(CheckpointFiles(settings)))
    plans.create(Plan(record.generation, 13, {0: (13, 14)}, False, None, "", {READINGS.name: files[:1]}, []))
    for file in files:
        path = Path(settings.lake.root, READINGS.name, file.path)
        os.utime(path, (path.stat().st_mtime - 8 * DAY_S,) * 2)
    assert look_after(settings, READINGS, thorough=True).vacuumed_files == 0
    commit_files(settings, READINGS, files[:1], BatchId(record.generation, "archive", 13))
    assert look_after(settings, READINGS, thorough=True).vacuumed_files == 1, "the file that nobody names"
    assert read_rows(settings, READINGS).num_rows == 14


def test_the_log_keeps_what_the_setting_says(lake: Lake) -> None:
    look_after(lake.settings, READINGS)
    version = open_table(lake.settings, READINGS).version()
    configuration = open_table(lake.settings, READINGS).metadata().configuration
    assert configuration["delta.logRetentionDuration"] == "interval 2592000 seconds"
    look_after(lake.settings, READINGS)
    assert open_table(lake.settings, READINGS).version() == version, "nothing to do, nothing committed"


def test_vacuum_below_a_week_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"upkeep\.vacuum_after"):
        load_settings(assignments=["upkeep.vacuum_after=6 d"])


def test_a_retention_shorter_than_kafkas_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"lake\.retention_days = 7 must be longer than kafka\.retention = 7 d"):
        load_settings(assignments=["lake.retention_days=7"])


def words_for(settings: Settings) -> list[str]:
    return ["--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={settings.pipeline.checkpoint}"]


def test_the_command_is_refused_while_another_writer_holds_the_lock_or_owns_the_tables(
    lake: Lake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with CheckpointLock(lake.settings, "gridwatch run"):
        assert main(["maintain", *words_for(lake.settings)]) == 3
        assert "in use by `gridwatch run`" in capsys.readouterr().err
    other = settings_in(tmp_path, pipeline={"checkpoint": str(tmp_path / "other")})
    assert main(["maintain", *words_for(other)]) == 3
    assert "belongs to generation" in capsys.readouterr().err
    assert main(["maintain", *words_for(lake.settings)]) == 0
    assert "readings" in capsys.readouterr().out


def test_a_table_with_a_lost_file_is_one_line_and_no_stack_trace(
    lake: Lake, capsys: pytest.CaptureFixture[str]
) -> None:
    next((Path(lake.settings.lake.root) / "readings/event_date=2026-03-01").glob("*.parquet")).unlink()
    assert main(["maintain", *words_for(lake.settings)]) == 4
    assert "lake.root =" in capsys.readouterr().err.splitlines()[-1]


def incident(name: str, *, days: int, status: str = "open") -> dict[str, object]:
    """Opened so many days after the first one."""
    at = NOON + timedelta(days=days)
    return {"incident_id": name, "scope": "meter", "status": status, "opened_at": at, "last_anomaly_at": at}


def test_anomalies_of_an_open_incident_outlive_the_retention(tmp_path: Path) -> None:
    """Its session would begin later without them, with another id, and everybody be told again."""
    root = {"root": str(tmp_path / "lake"), "retention_days": 8}
    lake = Lake(settings_in(tmp_path, lake=root)).make(batches=0)
    for day in range(6):
        at = NOON + timedelta(days=day)
        lake.add(ANOMALIES, [{"anomaly_id": str(day), "event_ts": at, "event_date": at.date()}], BatchId("g", "a", day))
    in_a_month = max(f.modified_at for f in data_files(open_table(lake.settings, ANOMALIES), ANOMALIES)) + 30 * DAY_S
    lake.add(INCIDENTS, [incident("a", days=2), incident("b", days=0, status="closed")], BatchId("g", "incidents", 0))
    assert look_after(lake.settings, ANOMALIES, now=in_a_month).expired_files == 2
    left = read_rows(lake.settings, ANOMALIES)["anomaly_id"].to_pylist()
    assert sorted(left) == ["2", "3", "4", "5"]
    open_table(lake.settings, INCIDENTS).delete()
    assert look_after(lake.settings, ANOMALIES, now=in_a_month).expired_files == 4


def test_a_long_optimize_commits_on_its_way(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed by `pipeline.stuck_after` it once lost all, and began anew an hour later."""
    monkeypatch.setattr(upkeep, "_COMMIT_EVERY", timedelta(0))
    settings = lake.settings.model_copy(update={"upkeep": lake.settings.upkeep.model_copy(update={"target_mb": 1})})
    at = NOON - timedelta(days=1)
    for number in range(100, 109):
        rows = [reading(n, meter_id=os.urandom(32).hex(), event_ts=at, event_date=at.date()) for n in range(5_000)]
        lake.add(READINGS, rows, BatchId("g", "archive", number))
    look_after(settings, READINGS, thorough=True)
    history = open_table(settings, READINGS).history()
    assert sum(c["operation"] == "OPTIMIZE" and str(at.date()) in str(c["operationParameters"]) for c in history) > 1
    assert read_rows(settings, READINGS).num_rows == 45_013


def test_the_time_of_the_last_upkeep_outlives_a_restart_of_the_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    """With restarts more often than `upkeep.every` there was none at all."""
    spark: Any = SimpleNamespace(sparkContext=SimpleNamespace(setLocalProperty=lambda name, value: None))
    runs: list[Any] = []
    monkeypatch.setattr(queries, "_STARTS", {"archive": runs.append})
    monkeypatch.setattr(queries.StartQueries, "_incidents", lambda self, run: None)
    start = queries.StartQueries(spark, Settings(), new_record(), print, "ready", Ending(), PipelineMetrics())
    start()
    runs[0].kept_up["readings"] = 7.0
    start()
    assert runs[1].kept_up == {"readings": 7.0}
