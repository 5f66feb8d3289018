"""Command demo: what cannot work is said before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli import demo
from pipelines.cli.main import build_parser, main


@pytest.mark.parametrize("part", ["lake", "broker", "checkpoint"])
def test_the_folder_of_an_earlier_run_is_refused(tmp_path: Path, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / part).mkdir()
    assert main(["demo", "--dir", str(tmp_path), "--store", "minio"]) == 2
    assert "holds an earlier run" in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--report", str(tmp_path / "none" / "r.json")]) == 2
    assert "name a file in a folder that exists" in capsys.readouterr().err


def test_a_report_in_the_folder_that_the_run_makes_is_none_of_these(tmp_path: Path) -> None:
    words = ["demo", "--dir", str(tmp_path / "new"), "--report", str(tmp_path / "new" / "r.json")]
    demo._check(build_parser().parse_args(words))
    assert not (tmp_path / "new").exists()
