"""gridwatch recompute, where it refuses: before Java starts, one line, and the exit code that fits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from deltalake.exceptions import DeltaError

from pipelines.cli.main import build_parser, main
from pipelines.identity.lock import CheckpointLock
from pipelines.offline.recompute import run
from pipelines.small_tables import as_arrow, replace_rows
from pipelines.tables import METERS
from tests.unit.identity.lakes import Lake, settings_in

DAY = ["--from", "2026-03-01", "--to", "2026-03-02"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--from", "2026-03-02", "--to", "2026-03-01"], "must lie before --to"),
        ([*DAY, "--dry-run", "--notify"], "nothing is sent in a --dry-run"),
    ],
)
def test_a_range_or_options_that_contradict_each_other_are_refused(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recompute", *words]) == 2
    assert expected in capsys.readouterr().err


def test_a_running_pipeline_keeps_it_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Lake(settings_in(tmp_path)).make().settings
    words = ["--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={settings.pipeline.checkpoint}"]
    with CheckpointLock(settings, "gridwatch run"):
        assert main(["recompute", *DAY, *words]) == 3
    assert "gridwatch run" in capsys.readouterr().err


def test_a_checkpoint_of_another_pipeline_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Lake(settings_in(tmp_path)).make().settings
    words = ["--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={tmp_path / 'other'}"]
    assert main(["recompute", *DAY, *words]) == 3
    assert "belongs to generation" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["recompute", "backtest"])
def test_a_range_with_an_offset_is_taken_in_utc(command: str) -> None:
    """The partition of a reading is its day in UTC, and one is read by the days of the range."""
    words = [command, "--from", "2026-03-02T00:30+02:00", "--to", "2026-03-01T22:00-05:00"]
    args = build_parser().parse_args(words)
    assert (args.from_ts, args.from_ts.day) == (datetime(2026, 3, 1, 22, 30, tzinfo=UTC), 1)
    assert (args.to_ts, args.to_ts.day) == (datetime(2026, 3, 2, 3, tzinfo=UTC), 2)


def test_a_time_before_the_first_year_of_utc_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["recompute", "--from", "0001-01-01T00:00+05:00", "--to", "2026-03-01"])
    assert ended.value.code == 2
    assert "is no ISO time" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [(OSError("no bucket"), 4, "lake.root"), (DeltaError("connection refused"), 4, "lake.root")],
)
def test_a_store_that_fails_is_one_line_and_the_exit_code_that_fits(
    error: Exception, code: int, expected: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    settings = Lake(settings_in(tmp_path)).make().settings
    words = ["--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={settings.pipeline.checkpoint}"]

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(run, "make_plan", fails)
    assert main(["recompute", *DAY, *words, "--dry-run"]) == code
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("gridwatch:")
    assert expected in last


def test_a_class_of_meters_that_the_settings_do_not_know_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Lake(settings_in(tmp_path)).make().settings
    replace_rows(as_arrow([("m1", "f1", None, None, 230.0, 40.0, None, "office")], METERS), settings, METERS)
    words = ["--set", f"lake.root={settings.lake.root}", "--set", f"pipeline.checkpoint={settings.pipeline.checkpoint}"]
    assert main(["recompute", *DAY, *words]) == 2
    assert "meter_class = 'office'" in capsys.readouterr().err
