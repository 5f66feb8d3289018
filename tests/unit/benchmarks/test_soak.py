"""The figures of a soak: what is counted is what is there, and what makes upkeep work changes no row."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from benchmarks import suite
from benchmarks.candidates import Place
from benchmarks.report import as_json, as_text
from benchmarks.soak import picture
from benchmarks.soak_chores import UPKEPT, age_logs, plant_orphans, upkeep_done
from benchmarks.soak_curves import as_columns, judge, judged
from benchmarks.soak_lake import Contents, checkpoint_files, objects
from benchmarks.soak_probe import samples_in
from benchmarks.trees import processes, tree
from pipelines import upkeep
from pipelines.errors import GridwatchError
from pipelines.local.processes import wait_until
from pipelines.observe.metrics import PipelineMetrics
from pipelines.observe.resources import JvmSample, Resources
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import open_table, read_rows
from pipelines.tables import AUDIT, READINGS, TABLES
from pipelines.upkeep import look_after
from tests.unit.identity.lakes import Lake, reading, settings_in

HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def _never_vacuumed() -> None:
    upkeep._vacuumed_at.clear()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Thirty archive batches of ten readings."""
    return Lake(settings_in(tmp_path)).make(batches=30)


def root_of(settings: Settings) -> Path:
    return Path(settings.lake.root)


def test_the_warm_up_says_nothing_about_the_slope() -> None:
    seconds = [at * 60.0 for at in range(61)]
    values = [5000.0 - at if at < 600 else 100 + 50 * at / HOUR_S for at in seconds]
    found = judge("rss_mib.pipeline", seconds, values, warm_s=600)
    assert found["per_hour"] == 50.0
    assert found["max"] == found["last"] == 150.0
    assert found["first"] == pytest.approx(108.3, abs=0.1)


def test_a_saw_tooth_that_does_not_rise_has_no_slope_worth_the_name() -> None:
    seconds = list(range(0, 3600, 15))
    found = judge("heap_mib.pipeline", seconds, [200 + at % 60 for at in seconds], warm_s=600)
    assert abs(found["per_hour"]) < 5
    assert found["max"] == 245


def test_figures_that_could_not_be_had_are_left_out_of_the_judgement() -> None:
    found = judge("lag", [0, 15, 30, 45], [None, 4, None, 6], warm_s=0)
    assert (found["first"], found["last"], found["max"]) == (4, 6, 6)
    assert found["per_hour"] == pytest.approx(240.0)


def test_a_run_that_ends_in_its_warm_up_is_not_judged() -> None:
    assert judge("lag", [0, 15], [1, 2], warm_s=600) == {
        "curve": "lag", "first": None, "last": None, "max": None, "per_hour": None,
    }  # fmt: skip


def test_of_the_tables_only_curves_that_move_are_shown_and_of_the_rest_all() -> None:
    rows = [{"seconds": at, "threads.broker": 9, "audit.files": at, "meters.files": 1} for at in (0, 15, 30)]
    found = judged(as_columns(rows), warm_s=0)
    assert [row["curve"] for row in found["curves"]] == ["threads.broker"]
    assert [row["curve"] for row in found["tables"]] == ["audit.files"]


def test_no_samples_give_no_curves() -> None:
    assert judged(as_columns([]), warm_s=600) == {"curves": [], "tables": []}


def test_files_of_data_and_log_are_counted_apart_and_hidden_ones_too(tmp_path: Path) -> None:
    sizes = {"_delta_log/0.json": 3, "_delta_log/.0.json.crc": 2, "day=1/a.parquet": 5, "day=2/deep/b.parquet": 7}
    for name, size in sizes.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    found = objects(tmp_path)
    assert (found.data, found.log, found.bytes) == (2, 2, 17)


def test_files_of_checkpoints_are_counted_by_kind_over_all_queries(tmp_path: Path) -> None:
    names = (
        "archive/offsets/0", "archive/offsets/1", "archive/commits/0", "windows/offsets/0",
        "generation-2/windows/state/0/1/1.changelog", "alerts-1/state/0/0/2.zip", "archive/metadata",
        "gridwatch-run.json",
    )  # fmt: skip
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert checkpoint_files(tmp_path) == {"offsets": 3, "commits": 1, "state": 2, "other": 2}


def test_the_log_of_a_table_tells_its_files_and_rows_as_it_grows(lake: Lake) -> None:
    contents = Contents(lake.settings)
    before = contents.of(READINGS)
    assert before
    assert (before.files, before.rows) == (30, 300)
    lake.archive(30)
    after = contents.of(READINGS)
    assert after
    assert (after.files, after.rows, after.version) == (31, 310, before.version + 1)
    on_disk = sum(path.stat().st_size for path in (root_of(lake.settings) / "readings").rglob("*.parquet"))
    assert after.bytes == on_disk


def test_a_table_that_is_not_there_yet_has_no_figures_until_it_is(tmp_path: Path) -> None:
    lake = Lake(settings_in(tmp_path))
    contents = Contents(lake.settings)
    assert contents.of(AUDIT) is None
    lake.make(batches=1)
    found = contents.of(AUDIT)
    assert found
    assert found.rows == 1


def test_upkeep_cuts_a_log_that_was_made_older_and_who_watches_or_writes_goes_on(lake: Lake) -> None:
    log, contents = root_of(lake.settings) / "readings/_delta_log", Contents(lake.settings)
    begun = contents.of(READINGS)
    look_after(lake.settings, READINGS)
    checkpointed = open_table(lake.settings, READINGS).version()
    for number in range(30, 35):
        lake.archive(number)
    old = [path for path in log.glob("*.json") if int(path.stem) < checkpointed]
    now = max(path.stat().st_mtime for path in log.iterdir())
    for path in old:
        os.utime(path, (now - 700, now - 700))
    rows = read_rows(lake.settings, READINGS).sort_by("kafka_offset")
    assert age_logs(lake.settings, after_s=600, now=now) == len(old) >= 30
    assert age_logs(lake.settings, after_s=600, now=now) == 0, "once"
    look_after(lake.settings, READINGS)
    assert not [path for path in old if path.exists()]
    assert read_rows(lake.settings, READINGS).sort_by("kafka_offset") == rows
    lake.archive(35)
    found = contents.of(READINGS)
    assert begun
    assert found
    assert found.rows == begun.rows + 60


def test_a_young_log_keeps_its_time_stamps(lake: Lake) -> None:
    log = root_of(lake.settings) / "readings/_delta_log"
    before = {path: path.stat().st_mtime for path in log.iterdir()}
    assert age_logs(lake.settings, after_s=600, now=max(before.values())) == 0
    assert {path: path.stat().st_mtime for path in log.iterdir()} == before


def test_the_first_round_of_upkeep_removes_what_a_killed_writer_left_in_each_table(lake: Lake) -> None:
    day = (datetime.now(UTC) - timedelta(days=1)).date()
    lake.add(READINGS, [reading(5000, event_date=day)], BatchId(lake.record.generation, "archive", 30))
    planted = plant_orphans(lake.settings, datetime.now(UTC).timestamp())
    assert set(planted) == {table.name for table in UPKEPT}
    assert all(path.exists() for path in planted.values())
    done = [look_after(lake.settings, TABLES[name]) for name in planted]
    assert [one.vacuumed_files for one in done] == [1] * len(UPKEPT)
    log = "\n".join(f"upkeep of {one.table}: {one.files} files, 0 made into larger ones" for one in done)
    rows = upkeep_done(log, {("readings", "vacuumed"): 1}, planted)
    assert {(row["rounds"], row["failed"], row["planted"], row["left"]) for row in rows} == {(1, 0, 1, 0)}
    assert {row["table"]: row["vacuumed"] for row in rows}["readings"] == 1
    assert read_rows(lake.settings, READINGS).num_rows == 301


def test_a_tree_counts_what_a_process_below_it_takes() -> None:
    before = tree(os.getpid(), processes())
    script = "import time; held = bytearray(b'x' * (80 << 20)); print('.', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout
            child.stdout.read(1)
            assert wait_until(lambda: tree(os.getpid(), processes()).rss_mib > before.rss_mib + 70, 10)
            after = tree(os.getpid(), processes())
            assert after.threads > before.threads
            assert after.fds > before.fds
        finally:
            child.kill()
    assert tree(child.pid, processes()) == type(before)(0.0, 0, 0)


def test_heap_and_upkeep_are_read_off_the_metrics_of_the_job_itself() -> None:
    metrics, resources = PipelineMetrics(), Resources({})
    resources.jvm = JvmSample({"used": 7 << 20, "committed": 9 << 20, "max": 9 << 20}, {}, {}, 5)
    metrics.registry.register(resources)
    metrics.maintained_files.labels("readings", "compacted").inc(12)
    found = list(samples_in(generate_latest(metrics.registry).decode().splitlines()))
    values = {(one.name, *one.labels.values()): one.value for one in found}
    assert values["gridwatch_jvm_heap_bytes", "used"] == 7 << 20
    assert values["gridwatch_maintained_files_total", "readings", "compacted"] == 12
    assert {one.name for one in found} == {"gridwatch_jvm_heap_bytes", "gridwatch_maintained_files_total"}


def test_a_soak_that_failed_reports_what_it_had_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(place: Place, traffic: object, broker: int, figures: dict[str, Any]) -> dict[str, Any]:
        figures["samples"] = {"lag": [1, 2]}
        raise GridwatchError("alerts ended")

    monkeypatch.setattr(suite, "soak", fails)
    report: dict[str, Any] = {}
    with pytest.raises(GridwatchError):
        suite.run("soak", Place("127.0.0.1:1", tmp_path, lambda line: None), suite.QUICK, report, 0)
    assert report["soak"] == {"samples": {"lag": [1, 2]}, "error": "alerts ended"}


def test_a_soak_is_no_part_of_all() -> None:
    assert "soak" in suite.NAMES
    assert "soak" in suite.APART


def test_samples_are_one_line_a_curve_in_the_json_and_not_in_the_text() -> None:
    report = {"soak": {"rate": 2000, "samples": {"seconds": [0.1, 15.0], "lag": [None, -3]}}}
    text = as_json(report)
    assert json.loads(text) == report
    assert '"lag": [null, -3]' in text
    assert "samples" not in as_text(report)
    assert "2,000" in as_text(report)


def test_the_curves_are_drawn_beside_the_report(tmp_path: Path) -> None:
    samples = {
        "seconds": [0.0, 15.0, 30.0], "rss_mib.pipeline": [9.0, 9.5, 9.4], "heap_mib.pipeline": [None, 3.0, 2.0],
        "files.live": [5, 9, 12], "checkpoint.offsets": [3, 6, 9], "lag": [0, None, 4000],
    }  # fmt: skip
    figures = {"rate": 2000, "seconds": 3600, "warm_up_s": 600, "samples": samples}
    path = tmp_path / "soak.png"
    assert picture(figures, path)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert not picture({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
