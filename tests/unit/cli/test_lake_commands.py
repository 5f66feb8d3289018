"""`sql` prints rows in three forms; `verify` prints a line a partition and ends with 3 when one is lost."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from pipelines.cli.main import main
from pipelines.cli.render import as_table, plain
from pipelines.reconcile import verify as verification
from pipelines.reconcile.ranges import OffsetRange
from pipelines.reconcile.report import PartitionReport, VerifyReport
from pipelines.settings import Settings
from pipelines.small_tables import as_arrow, create_tables, replace_rows
from pipelines.tables import METERS, REJECTED

QUERY = "SELECT meter_id, rated_current_a AS rated, phase FROM meters ORDER BY 1"


@pytest.fixture
def root(tmp_path: Path) -> str:
    """A lake with two meters and one record that is no text."""
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(settings)
    meters = [("m-1", None, None, "A", 230.0, 62.5, None, None), ("m-2", None, None, None, 230.0, 60.0, None, None)]
    replace_rows(as_arrow(meters, METERS), settings, METERS)
    record = dict.fromkeys(REJECTED.column_names) | {"reason": "not_utf8", "value": b"\xffa\n"}
    replace_rows(as_arrow([tuple(record.values())], REJECTED), settings, REJECTED)
    return f"lake.root={tmp_path / 'lake'}"


def test_rows_are_an_aligned_table(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", QUERY, "--set", root]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "meter_id  rated  phase",
        "--------  -----  -----",
        "m-1        62.5  A",
        "m-2          60  null",
    ]


def test_rows_are_csv(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sql", QUERY, "--set", root, "--format", "csv"])
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["meter_id", "rated", "phase"], ["m-1", "62.5", "A"], ["m-2", "60", ""]]


def test_rows_are_json(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sql", QUERY, "--set", root, "--format", "json"])
    assert json.loads(capsys.readouterr().out) == [
        {"meter_id": "m-1", "rated": 62.5, "phase": "A"},
        {"meter_id": "m-2", "rated": 60.0, "phase": None},
    ]


def test_no_rows_are_a_header_or_an_empty_array(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sql", "SELECT meter_id FROM readings", "--set", root])
    main(["sql", "SELECT meter_id FROM readings", "--set", root, "--format", "json"])
    header, rule, *array = capsys.readouterr().out.splitlines()
    assert (header, rule) == ("meter_id", "--------")
    assert json.loads("".join(array)) == []


def test_bytes_that_are_no_text_are_shown_escaped_on_one_line(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sql", "SELECT value FROM rejected", "--set", root])
    assert capsys.readouterr().out.splitlines()[2] == r"\\xffa\n"


def test_a_plan_is_drawn_as_it_is(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["sql", "EXPLAIN SELECT 1", "--set", root])
    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.parametrize(
    ("query", "words"), [("SELECT * FROM nope", "no table nope"), ("DROP TABLE meters", "only reads")]
)
def test_a_refused_query_is_one_line_and_exit_code_2(
    root: str, query: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sql", query, "--set", root]) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1


def test_values_json_does_not_know_are_text() -> None:
    assert plain(b"a\xff") == r"a\xff"


def test_a_table_without_rows_still_has_its_header() -> None:
    assert as_table(["a", "bb"], []) == "a  bb\n-  --"


def partition(lost: int = 0) -> PartitionReport:
    return PartitionReport(
        partition=0,
        log_start=0,
        broker_end=12,
        start=0,
        committed_end=10,
        archived=9 - lost,
        rejected=1,
        lost=lost,
        lost_ranges=(OffsetRange(3, 3),) if lost else (),
        duplicates=0,
        duplicate_offsets=(),
        beyond=0,
        ahead=0,
    )


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[VerifyReport]:
    """What the reconciliation is going to find; the last one counts."""
    reports = [VerifyReport("sensor-readings", (partition(),), {"too_old": 1})]
    monkeypatch.setattr(verification, "verify", lambda settings, say: reports[-1])
    return reports


def test_a_complete_lake_ends_with_0_and_a_verdict(
    found: list[VerifyReport], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[2].split() == ["0", "0", "10", "9", "1", "0", "0", "0", "0", "2"]
    assert "rejected: too_old 1" in said.out
    assert said.err.startswith("ok: sensor-readings: 9 archived + 1 rejected")


def test_a_lost_record_ends_with_3_and_names_the_offset(
    found: list[VerifyReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.append(VerifyReport("sensor-readings", (partition(lost=1),)))
    report = tmp_path / "report.json"
    assert main(["verify", "--report", str(report), "--json"]) == 3
    said = capsys.readouterr()
    assert "partition 0: 1 offset in neither readings nor rejected: 3" in said.err
    assert json.loads(said.out) == json.loads(report.read_text())
    assert json.loads(said.out)["lost"] == 1


def test_a_report_that_cannot_be_written_is_refused(
    found: list[VerifyReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found.clear()  # nothing may be reconciled before
    assert main(["verify", "--report", str(tmp_path / "none" / "r.json")]) == 2
    assert "name a file in a folder that exists" in capsys.readouterr().err
