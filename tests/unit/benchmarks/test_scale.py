"""The benchmark of whole fleets: its arguments, what a point reads and closes, and how batches are counted."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import scale_probe
from benchmarks.__main__ import _parser, main
from benchmarks.scale import Fleet
from benchmarks.scale_driver import driver_times
from benchmarks.scale_probe import ScaleProbe
from benchmarks.soak_probe import samples_in


def test_fleets_are_named_on_the_command_line() -> None:
    args = _parser().parse_args(["scale", "--meters", "1000,10000@30", "--seed", "8"])
    assert args.meters == (Fleet(1_000, 60), Fleet(10_000, 30))
    assert args.seed == 8


@pytest.mark.parametrize("text", ["", "many", "99", "1000001", "1000@0", "1000@3601", "1000,"])
def test_a_fleet_out_of_range_is_refused_with_what_is_allowed(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["scale", "--meters", text])
    assert ended.value.code == 2
    assert "100 to 1000000 meters" in capsys.readouterr().err


@pytest.mark.parametrize("fleet", [Fleet(1_000), Fleet(10_000, 10), Fleet(1_000_000), Fleet(100, 3600)])
def test_every_point_closes_whole_windows_from_a_window_end_on(fleet: Fleet) -> None:
    assert 2 <= fleet.window_ends <= 10
    assert fleet.end.tzinfo is UTC
    assert fleet.end.timestamp() % fleet.slide_s == 0


class _Job:
    """Answers like the metrics of a job, one text after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: list[list[str]] = []
        monkeypatch.setattr(scale_probe, "scrape", lambda _, names: list(samples_in(self.answers.pop(0), names)))
        monkeypatch.setattr(ScaleProbe, "_find", lambda _: {"python": 0, "jvm": 0, "broker": 0})

    def says(self, batches: int, seconds: float, records: int, state: int = 0) -> None:
        self.answers.append([
            f'gridwatch_batch_duration_seconds_count{{query="archive"}} {batches}',
            f'gridwatch_batch_duration_seconds_sum{{query="archive"}} {seconds}',
            f'gridwatch_input_records_total{{query="archive"}} {records}',
            f'gridwatch_state_rows{{query="windows"}} {state}',
            'gridwatch_sink_duration_seconds_sum{kind="delta",sink="readings"} 1.5',
            'gridwatch_sink_duration_seconds_count{kind="delta",sink="readings"} 3',
        ])  # fmt: skip


def test_batches_are_told_apart_and_two_between_samples_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    job = _Job(monkeypatch)
    live: Any = SimpleNamespace(settings=SimpleNamespace(metrics=SimpleNamespace(port=1)))
    probe = ScaleProbe(live, 0)
    job.says(0, 0, 0)
    job.says(1, 4, 100, state=50)
    job.says(1, 4, 100, state=20)
    job.says(3, 10, 400)
    job.answers.append([])  # a job that does not answer
    for _ in range(5):
        probe.take()
    assert [one["seconds"] for one in probe.batches["archive"]] == [4, 3, 3]
    assert probe.archived() == 400
    found = probe.figures()
    assert found["batches"]["archive"] == {"n": 3, "seconds": 10, "longest_s": 4, "records": 400}
    assert found["batches"]["windows"]["n"] == 0
    assert found["state_rows"] == 50
    assert found["sink_s"] == {"delta readings": 1.5}


def test_the_driver_holds_the_keys_of_the_horizon(tmp_path: Path) -> None:
    [row] = driver_times((2_000,), tmp_path, lambda _: None)
    assert row["keys_mib"] == round(11 * 2_000 * 8 / 2**20, 1)
    assert all(value >= 0 for value in row.values())
