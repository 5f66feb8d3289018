"""gridwatch recompute, where it refuses: before Java starts, one line, and the exit code that fits."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.cli.main import build_parser, main
from pipelines.identity.lock import CheckpointLock
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
