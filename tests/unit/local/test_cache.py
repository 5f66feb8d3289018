"""The cache: where it is, and that a part is made once, whole or not at all."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from pipelines.errors import SettingsError
from pipelines.local.cache import cache_dir, made_once, pinned


def test_the_variable_chooses_the_cache_and_a_checkout_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDWATCH_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path.resolve()
    monkeypatch.delenv("GRIDWATCH_CACHE")
    assert cache_dir() in {Path(__file__).parents[3] / ".cache", Path.home() / ".cache" / "gridwatch"}


def test_a_part_is_made_the_first_time_only(tmp_path: Path) -> None:
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "jar").touch()

    for _ in range(2):
        assert (made_once(tmp_path / "part", make) / "jar").is_file()
    assert len(calls) == 1


def test_a_part_that_failed_half_way_is_made_again_from_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise RuntimeError("network gone")

    with pytest.raises(RuntimeError, match="network gone"):
        made_once(tmp_path / "part", fail)
    assert not (tmp_path / "part").exists()
    made = made_once(tmp_path / "part", lambda folder: (folder / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]


def test_two_at_once_make_it_once_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    said: list[str] = []
    calls: list[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        time.sleep(0.3)

    makers = [
        threading.Thread(target=made_once, args=(tmp_path / "part", make), kwargs={"say": said.append})
        for _ in range(2)
    ]
    for maker in makers:
        maker.start()
    for maker in makers:
        maker.join()
    assert len(calls) == 1
    assert said == ["waiting for another process that prepares part"]


def test_an_unknown_pin_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"conf/local.toml has no \[broker\] rabbit"):
        pinned("broker", "rabbit")
