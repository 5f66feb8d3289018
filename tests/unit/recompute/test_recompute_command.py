"""gridwatch recompute, where it refuses: before Java starts, one line, and the exit code that fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli.main import main
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
