"""A part left running is stopped later only if it is still the very process that was recorded."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.errors import DataRefused, SettingsError
from pipelines.local.processes import Child
from pipelines.local.state import (
    RunState,
    birth,
    forget_state,
    read_state,
    require_not_running,
    stop_recorded,
    write_state,
)

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


def recorded_sleeper(folder: Path) -> tuple[Child, RunState]:
    child = Child.start("sleeper", SLEEP, log=folder / "log")
    state = RunState.of("broker", child.pid, address="127.0.0.1:9092")
    write_state(folder, state)
    return child, state


def test_a_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    child, state = recorded_sleeper(tmp_path)
    assert read_state(tmp_path, "broker") == state
    assert state.is_alive()
    child.stop()
    assert not state.is_alive()


def test_the_recorded_process_is_stopped_once(tmp_path: Path) -> None:
    child, _ = recorded_sleeper(tmp_path)
    assert stop_recorded(tmp_path, "broker")
    assert not child.is_running()
    assert not stop_recorded(tmp_path, "broker")
    child.stop()


def test_another_process_with_the_recorded_id_is_left_alone(tmp_path: Path) -> None:
    child, state = recorded_sleeper(tmp_path)
    write_state(tmp_path, replace(state, began="an earlier boot/1"))
    assert not stop_recorded(tmp_path, "broker")
    assert child.is_running()
    child.stop()


def test_a_second_start_from_the_folder_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    child, _ = recorded_sleeper(tmp_path)
    with pytest.raises(SettingsError, match=rf"at 127.0.0.1:9092 \(process {child.pid}\).*broker stop"):
        require_not_running(tmp_path, "broker")
    child.stop()
    require_not_running(tmp_path, "broker")


def test_nothing_recorded_means_nothing_to_stop(tmp_path: Path) -> None:
    forget_state(tmp_path, "broker")
    assert read_state(tmp_path, "broker") is None
    assert not stop_recorded(tmp_path, "broker")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", json.dumps({"name": "broker", "pid": "x", "began": "", "address": ""})]
)
def test_a_file_that_is_no_state_is_refused_by_its_path(tmp_path: Path, text: str) -> None:
    (tmp_path / "broker.json").write_text(text)
    with pytest.raises(DataRefused, match=r"broker\.json is not a state file"):
        read_state(tmp_path, "broker")


def test_birth_is_stable_for_us_and_none_for_nobody() -> None:
    assert birth(os.getpid()) == birth(os.getpid()) is not None
    assert birth(2**22 + 1) is None
