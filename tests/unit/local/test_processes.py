"""What we start we stop, by its id, with its children, whatever happens; and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from pipelines.errors import InfrastructureUnavailable
from pipelines.local.processes import Child, LocalParts, run_logged, wait_until
from pipelines.local.state import birth

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
IGNORES_SIGTERM = [
    sys.executable,
    "-c",
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(60)",
]
HAS_A_CHILD = [
    sys.executable,
    "-c",
    "import subprocess, sys, time\n"
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
    "time.sleep(60)",
]


def logged_number(log: Path) -> int:
    assert wait_until(lambda: log.exists() and log.read_text().strip().isdigit(), 10)
    return int(log.read_text())


def is_gone(pid: int) -> bool:
    return wait_until(lambda: birth(pid) is None, 5)


def test_stop_ends_the_child_with_sigterm_and_may_be_called_again(tmp_path: Path) -> None:
    child = Child.start("sleeper", SLEEP, log=tmp_path / "log")
    assert child.is_running()
    assert child.stop() == -signal.SIGTERM
    assert child.stop() == -signal.SIGTERM
    assert not child.is_running()


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace_time(tmp_path: Path) -> None:
    child = Child.start("stubborn", IGNORES_SIGTERM, log=tmp_path / "log")
    assert wait_until(lambda: "ready" in child.log_tail(), 10)
    began = time.monotonic()
    assert child.stop(grace_s=0.3) == -signal.SIGKILL
    assert 0.3 <= time.monotonic() - began < 5


def test_stop_ends_the_childs_children_too(tmp_path: Path) -> None:
    child = Child.start("parent", HAS_A_CHILD, log=tmp_path / "log")
    grandchild = logged_number(tmp_path / "log")
    child.stop()
    assert is_gone(grandchild)


def test_a_child_that_ended_by_itself_leaves_nothing_of_its_group_behind(tmp_path: Path) -> None:
    child = Child.start("parent", HAS_A_CHILD, log=tmp_path / "log")
    grandchild = logged_number(tmp_path / "log")
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(5)
    assert child.stop() == -signal.SIGKILL
    assert is_gone(grandchild)


def test_the_log_keeps_what_the_child_printed(tmp_path: Path) -> None:
    child = Child.start("printer", [sys.executable, "-c", "print('one'); print('two')"], log=tmp_path / "log")
    assert child.wait(10)
    assert child.stop() == 0
    assert child.log_tail(1) == "two"


def test_a_missing_program_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureUnavailable, match=r"nothing could not be started: .*no-such-program"):
        Child.start("nothing", ["no-such-program"], log=tmp_path / "log")


def test_parts_are_stopped_in_reverse_order_also_after_an_exception() -> None:
    order: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        def stop(self) -> None:
            order.append(self.name)

    def run() -> None:
        with LocalParts() as parts:
            parts.add(Part("broker"))
            parts.add(Part("job"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run()
    assert order == ["job", "broker"]


def test_parts_stop_what_they_started_and_nothing_else(tmp_path: Path) -> None:
    with subprocess.Popen(SLEEP) as bystander:
        with LocalParts() as parts:
            child = parts.start("sleeper", SLEEP, log=tmp_path / "log")
        assert not child.is_running()
        assert bystander.poll() is None
        bystander.kill()


def test_handlers_are_as_before_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with LocalParts():
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


PROGRAM = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from pipelines.local.processes import LocalParts

    with LocalParts() as parts:
        sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
        print(parts.start("sleeper", sleeper, log=Path(sys.argv[1])).pid, flush=True)
        time.sleep(60)
""")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_is_interrupted_stops_its_child(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "log")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        program.send_signal(number)
        assert program.wait(10) != 0
    assert is_gone(child)


INTERRUPTED_AMID_THE_FORK = textwrap.dedent("""
    import os, signal, sys, time
    from pathlib import Path
    from pipelines.local.processes import LocalParts

    def of_another_module():
        os.kill(os.getpid(), signal.Signals[sys.argv[2]])
        for _ in range(1000):
            pass

    with LocalParts() as parts:
        os.register_at_fork(after_in_parent=of_another_module)
        parts.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], log=Path(sys.argv[1]))
        time.sleep(60)
""")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_amid_the_start_of_a_child_is_not_lost(tmp_path: Path, number: signal.Signals) -> None:
    program = [sys.executable, "-c", INTERRUPTED_AMID_THE_FORK, str(tmp_path / "log"), number.name]
    done = subprocess.run(program, capture_output=True, text=True, timeout=20, check=False)
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert "ignored" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_program_killed_by_sigkill_takes_its_child_with_it(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path / "log")], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        program.kill()
        program.wait(10)
    assert is_gone(child)


def test_a_child_started_by_a_thread_outlives_that_thread(tmp_path: Path) -> None:
    """Linux would kill it at the thread's end, so such a child is not tied to its parent."""
    started: list[Child] = []
    thread = threading.Thread(target=lambda: started.append(Child.start("s", SLEEP, log=tmp_path / "log")))
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert started[0].is_running()
    started[0].stop()


def test_a_logged_run_hands_on_every_line_and_its_exit_code(tmp_path: Path) -> None:
    lines: list[str] = []
    command = [sys.executable, "-c", "import sys; print('one'); print('two'); sys.exit(3)"]
    assert run_logged(command, log=tmp_path / "log", on_line=lines.append) == 3
    assert lines == ["one\n", "two\n"]
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_an_interrupted_logged_run_leaves_nothing_running(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_logged(HAS_A_CHILD, log=tmp_path / "log", on_line=interrupt)
    assert is_gone(pids[0])
