"""How a part left running is found and stopped later: which process, and proof that it is still that one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from pipelines.errors import DataRefused, SettingsError
from pipelines.local.processes import wait_until

_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class RunState:
    """One part: its name, its process and the moment that process began, and where it listens. No secrets."""

    name: str
    pid: int
    began: str
    address: str

    @classmethod
    def of(cls, name: str, pid: int, *, address: str) -> Self:
        """State of a process that runs now. Raises ProcessLookupError when it does not."""
        began = birth(pid)
        if began is None:
            raise ProcessLookupError(f"{name} with process id {pid} does not run")
        return cls(name, pid, began, address)

    def is_alive(self) -> bool:
        """Whether that very process runs: a recycled process id is not it."""
        return birth(self.pid) == self.began


def birth(pid: int) -> str | None:
    """When a process began, unique together with its id; None when it does not run or is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if not _BOOT.exists():
        return _birth_by_ps(pid)
    try:
        fields = stat.read_text().rpartition(")")[2].split()  # the name in parentheses may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, began = fields[0], fields[19]
    return None if state in "ZX" else f"{_BOOT.read_text().strip()}/{began}"


def write_state(run_dir: Path, state: RunState) -> None:
    """Record a part left running; replaces an older record in one step."""
    path = _path(run_dir, state.name)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def read_state(run_dir: Path, name: str) -> RunState | None:
    """The record of a part, None when there is none. Raises DataRefused when it is not readable as one."""
    path = _path(run_dir, name)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        return RunState(str(fields["name"]), int(fields["pid"]), str(fields["began"]), str(fields["address"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as problem:
        raise DataRefused(
            f"{path} is not a state file of ours ({problem}): look what runs, then delete it"
        ) from problem


def forget_state(run_dir: Path, name: str) -> None:
    """Remove the record."""
    _path(run_dir, name).unlink(missing_ok=True)


def require_not_running(run_dir: Path, name: str) -> None:
    """Raises SettingsError when the part recorded in this folder runs."""
    state = read_state(run_dir, name)
    if state is not None and state.is_alive():
        raise SettingsError(
            f"{name} of {run_dir} runs already at {state.address} (process {state.pid}): "
            f"use it, or end it with `gridwatch {name} stop`"
        )


def stop_recorded(run_dir: Path, name: str, *, grace_s: float = 20.0) -> bool:
    """Stop the recorded process and its group: SIGTERM, after `grace_s` SIGKILL. False when it runs no more.

    The process is compared with the record before each signal; any other process of that id is left alone.
    """
    state = read_state(run_dir, name)
    if state is None or not state.is_alive():
        return False
    _signal(state, signal.SIGTERM)
    if not wait_until(lambda: not state.is_alive(), grace_s):
        _signal(state, signal.SIGKILL)
        wait_until(lambda: not state.is_alive(), grace_s)
    return True


def _signal(state: RunState, number: signal.Signals) -> None:
    if not state.is_alive():
        return
    try:
        os.killpg(state.pid, number)
    except ProcessLookupError:
        return


def _birth_by_ps(pid: int) -> str | None:
    done = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, began = done.stdout.strip().partition(" ")
    return None if not state or state.startswith("Z") else began.strip()


def _path(run_dir: Path, name: str) -> Path:
    return run_dir / f"{name}.json"
