"""gridwatch quality: exit codes for schedulers, the table of results, the pages, one line for what cannot be."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.quality.suites import all_suites
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, read_rows
from pipelines.tables import QUALITY_RESULTS
from tests.unit.quality import archive, bad_days

pytestmark = pytest.mark.quality
ARGUMENTS = ("--set", "detection.cadence_s=120")


def run(root: Path, *more: str, day: str = str(archive.DAY)) -> int:
    return main(["quality", "--day", day, "--set", f"lake.root={root}", *ARGUMENTS, *more])


def test_a_good_day_ends_with_0_and_leaves_rows_and_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake, reports = tmp_path / "lake", tmp_path / "reports"
    settings = archive.write(lake)
    assert run(lake, "--json", "--report-dir", str(reports)) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    expected = sum(len(suite.checks) for suite in all_suites(settings))
    assert (report["ok"], report["day"], report["failed"], report["expectations"]) == (True, "2026-03-01", [], expected)
    assert "parts counted" in said.err
    assert "readings from 00:00 to 24:00" in said.err
    page = (reports / "2026-03-01" / "index.html").read_text(encoding="utf-8")
    assert all(f"{suite.name}.{check.name}<" in page for suite in all_suites(settings) for check in suite.checks)
    assert "<script" not in page
    links = set(re.findall(r'href="([^"]+)"', page))
    assert len(links) == len(all_suites(settings))
    assert all((reports / "2026-03-01" / link).is_file() for link in links)
    rows = read_rows(settings, QUALITY_RESULTS).to_pylist()
    assert len(rows) == expected
    assert {(row["day"], row["success"], row["run_id"]) for row in rows} == {(archive.DAY, True, report["run_id"])}


def test_a_bad_day_ends_with_3_and_names_what_it_breaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lake = tmp_path / "lake"
    settings = archive.write(lake, archive=bad_days.a_voltage_lost)
    for _ in range(2):
        assert run(lake, "--report-dir", str(tmp_path / "reports")) == 3
    said = capsys.readouterr()
    assert "readings.by_meter.voltage_v_known" in said.out
    assert "1 of 24 rows, such as null_voltage_v=1, meter_id=m-000" in said.out
    assert said.err.strip().splitlines()[-1].startswith("gridwatch: 2026-03-01 fails 1 of ")
    broken = [row for row in read_rows(settings, QUALITY_RESULTS).to_pylist() if not row["success"]]
    assert [(row["expectation"], row["severity"], row["unexpected"]) for row in broken] == [
        ("voltage_v_known", "fail", 1)
    ] * 2
    assert json.loads(broken[0]["examples"])[0]["null_voltage_v"] == 1


def test_a_warning_does_not_fail_the_day(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive.write(tmp_path / "lake", world=bad_days.a_meter_that_is_not_in_the_fleet)
    assert run(tmp_path / "lake", "--report-dir", str(tmp_path / "reports")) == 0
    assert "0 failed, " in capsys.readouterr().out


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_day_without_readings_is_refused_with_the_days_there_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive.write(tmp_path)
    assert run(tmp_path, day="2026-04-01") == 3
    assert "no readings on 2026-04-01" in (said := refusal(capsys))
    assert "the archive holds 2026-02-28 to 2026-03-02" in said


def test_a_refused_day_is_a_document_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_tables(Settings.model_validate({"lake": {"root": str(tmp_path)}}))
    assert run(tmp_path, "--json", "--report-dir", str(tmp_path / "reports")) == 3
    said = json.loads(capsys.readouterr().out)
    assert (said["day"], said["ok"]) == ("2026-03-01", False)
    assert "holds no readings at all" in said["error"]
    assert not (tmp_path / "reports").exists()


def test_a_report_folder_that_cannot_be_made_is_refused_before_the_day_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(tmp_path, "--report-dir", str(tmp_path / "file" / "x")) == 2
    assert "name a folder that can be written" in refusal(capsys)


def test_an_archive_without_readings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_tables(Settings.model_validate({"lake": {"root": str(tmp_path)}}))
    assert run(tmp_path) == 3
    assert "holds no readings at all" in refusal(capsys)


def test_a_day_that_is_none_and_a_lake_that_is_none_are_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, day="yesterday") == 2
    assert "a day is written as YYYY-MM-DD" in refusal(capsys)
    assert run(tmp_path / "none") == 2
    assert "holds no tables" in refusal(capsys)


def test_without_the_extra_one_line_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "great_expectations", None)
    assert run(tmp_path) == 2
    assert "pip install -c conf/constraints.txt -e '.[quality]'" in refusal(capsys)


def test_names_are_unique_and_every_meaning_is_a_sentence() -> None:
    for suite in all_suites(Settings()):
        assert len({check.name for check in suite.checks}) == len(suite.checks)
        assert all(check.meaning.endswith(".") for check in suite.checks)


def test_only_the_judge_imports_great_expectations() -> None:
    root = Path(__file__).parents[3] / "pipelines"
    users = [path.name for path in root.rglob("*.py") if "import great_expectations" in path.read_text("utf-8")]
    assert users == ["judge.py"]
