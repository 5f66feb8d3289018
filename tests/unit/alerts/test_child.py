"""The member that a pipeline starts: real processes, which end with their parent and are started again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.alerts.child import AlertsChild
from pipelines.local.processes import wait_until
from pipelines.settings import Settings
from pipelines.settings_load import load_settings

ROOT = Path(__file__).parents[3]
SETTINGS = load_settings(assignments=["alerts.max_restarts=1"], environment={}).settings
READS = "import pickle, sys; settings, name = pickle.load(sys.stdin.buffer);"
WAITS = f"{READS} sys.stdin.buffer.read()"

Start = Callable[..., AlertsChild]


def child(program: str, told: list[str], settings: Settings = SETTINGS) -> AlertsChild:
    return AlertsChild(settings, "pipeline-x", told.append, command=(sys.executable, "-c", program))


def ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_gets_the_settings_and_its_name_and_no_argument_holds_them(tmp_path: Path) -> None:
    settings = load_settings(environment={"GRIDWATCH_STORE__SECRET_KEY": "canary"}).settings
    program = (
        f"{READS} open({str(tmp_path / 'said')!r}, 'w').write(name + settings.store.secret_key.get_secret_value())"
    )
    with child(f"{program}; sys.stdin.buffer.read()", [], settings) as running:
        assert wait_until(lambda: (tmp_path / "said").exists() and bool((tmp_path / "said").read_text()), 10)
        assert b"canary" not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
        assert b"canary" not in Path(f"/proc/{running.pid}/environ").read_bytes()
    assert (tmp_path / "said").read_text() == "pipeline-xcanary"


def test_it_ends_when_the_block_does() -> None:
    with child(WAITS, []) as running:
        assert wait_until(lambda: running.pid is not None, 10)
        pid = running.pid
    assert pid is not None
    assert ended(pid)
    assert running.problem is None


def test_the_thread_that_watches_the_parent_lets_the_program_end_in_order() -> None:
    program = "import threading, pipelines.alerts.__main__ as child; ending = threading.Event();"
    program += "threading.Thread(target=child._end_with_parent, args=(ending,), daemon=True).start(); ending.wait(0.3)"
    command = (sys.executable, "-c", program)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
        assert process.stderr is not None
        assert (process.wait(20), process.stderr.read()) == (0, b"")


def test_killed_it_is_started_again_and_then_gives_up_with_the_exit_code_of_a_failure() -> None:
    told: list[str] = []
    with child(WAITS, told) as running:
        assert wait_until(lambda: running.pid is not None, 10)
        first = running.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: running.pid not in (None, first), 10), told
        second = running.pid
        assert second is not None
        os.kill(second, signal.SIGKILL)
        assert wait_until(lambda: running.problem is not None, 10), told
    assert running.problem is not None
    assert running.problem.exit_code == 4
    assert any("signal 9; restart 1 of 1" in line for line in told)


@pytest.mark.parametrize("code", [2, 3])
def test_what_a_restart_does_not_help_ends_it_at_once_with_the_same_exit_code(code: int) -> None:
    with child(f"{READS} sys.exit({code})", []) as running:
        assert wait_until(lambda: running.problem is not None, 10)
    assert running.problem is not None
    assert running.problem.exit_code == code


def test_a_fenced_member_is_not_started_again_and_ends_nothing() -> None:
    told: list[str] = []
    with child(f"{READS} sys.exit(5)", told) as running:
        assert wait_until(lambda: any("goes on" in line for line in told), 10)
        assert (running.problem, running.pid) == (None, None)


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    """A process that starts a child and is killed with SIGKILL; the child's pid is in a file."""
    program = f"""
import sys, time
from pathlib import Path
from pipelines.alerts.child import AlertsChild
from pipelines.settings import Settings
with AlertsChild(Settings(), "x", print, command=(sys.executable, "-c", {WAITS!r})) as running:
    while running.pid is None:
        time.sleep(0.01)
    Path({str(tmp_path / "pid")!r}).write_text(str(running.pid))
    time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ) | {"PYTHONPATH": str(ROOT)})
    try:
        assert wait_until(lambda: (tmp_path / "pid").exists() and bool((tmp_path / "pid").read_text()), 20)
        pid = int((tmp_path / "pid").read_text())
        assert not ended(pid)
    finally:
        parent.kill()
        parent.wait()
    assert wait_until(lambda: ended(pid), 10)


def test_an_interrupt_of_the_terminal_does_not_reach_it() -> None:
    with child(WAITS, []) as running:
        assert wait_until(lambda: running.pid is not None, 10)
        assert running.pid is not None
        assert os.getpgid(running.pid) != os.getpgid(0)
