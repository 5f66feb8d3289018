"""Child processes that are stopped by their id, never by a name, and do not outlive us."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Protocol, Self, TypeVar

from pipelines.errors import InfrastructureUnavailable

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_POLL_S = 0.02


class Stoppable(Protocol):
    """A part that can be stopped; stopping what is already stopped does nothing."""

    def stop(self) -> Any: ...


Part = TypeVar("Part", bound=Stoppable)


class Child:
    """One program in its own session and process group, with its output in a log file that is kept.

    Ctrl-C in the terminal does not reach it: the parent decides. When the parent dies, even by SIGKILL, Linux
    kills the child (not its children); elsewhere, and for `detached` children, it lives on. Linux ties this
    to the *thread* that started the child, so a child started outside the main thread is not tied to us.
    """

    def __init__(self, name: str, process: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    def start(
        cls,
        name: str,
        argv: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        detached: bool = False,
    ) -> Self:
        """Start `argv`, appending its output to `log`. Raises InfrastructureUnavailable if it cannot run."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            try:
                process = _spawn(argv, stdout=output, env=env, cwd=cwd, tied=not detached)
            except OSError as problem:
                raise InfrastructureUnavailable(f"{name} could not be started: {problem}") from problem
        return cls(name, process, log)

    @property
    def pid(self) -> int:
        """Process id, which is the id of its group too."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code once it was stopped or waited for; minus the signal's number when a signal ended it."""
        return self._process.returncode

    def is_running(self) -> bool:
        """Whether it has not exited. Leaves the exit status in place, so that the id cannot be given away."""
        if self._process.returncode is not None:
            return False
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._process.poll() is None
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def wait(self, timeout_s: float) -> bool:
        """Whether it exited within the time."""
        return wait_until(lambda: not self.is_running(), timeout_s)

    def stop(self, grace_s: float = 10.0) -> int:
        """SIGTERM to the group, SIGKILL to what is left of it after `grace_s`; returns the exit code."""
        if self._process.returncode is None:
            self._signal(signal.SIGTERM)
            self.wait(grace_s)
        return self.kill()

    def kill(self) -> int:
        """SIGKILL to the whole group, at once; returns the exit code."""
        if self._process.returncode is None:
            self._signal(signal.SIGKILL)
        return self._process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log, for an error message."""
        return tail(self.log, lines)

    def _signal(self, number: signal.Signals) -> None:
        # The exit status has not been collected, so neither pid nor group id can belong to somebody else.
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
            return


class LocalParts:
    """Everything a run started, stopped in reverse order at the end, after an exception, Ctrl-C or SIGTERM.

    While it is open SIGTERM raises KeyboardInterrupt in the main thread, like Ctrl-C. While it stops, both
    signals are ignored: stopping has its own time limits and must not be left half done.
    """

    def __init__(self) -> None:
        self._parts = ExitStack()
        self._handlers: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._on_signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._on_signal(signal.SIGTERM, signal.SIG_IGN)
        self._on_signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._parts.close()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            self._handlers.clear()

    def add(self, part: Part) -> Part:
        """Take over a started part: it will be stopped with the others. Returns it."""
        self._parts.callback(part.stop)
        return part

    def start(self, name: str, argv: Sequence[str | Path], *, log: Path, **options: Any) -> Child:
        """Start a child and take it over; options as of `Child.start`."""
        with interrupts_held_back():
            return self.add(Child.start(name, argv, log=log, **options))

    def _on_signal(self, number: signal.Signals, handler: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        self._handlers.setdefault(number, signal.getsignal(number))
        signal.signal(number, handler)


def run_logged(
    command: Sequence[str],
    *,
    log: Path,
    on_line: Callable[[str], None],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Run a program to its end and return its exit code; each line it prints goes to `log` and to `on_line`.

    When we are interrupted or `on_line` raises, the program and what it started are killed.
    """

    def kill_after_error(kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            os.killpg(program.pid, signal.SIGKILL)

    with log.open("w", encoding="utf-8") as kept, ExitStack() as ended:
        with interrupts_held_back():
            program = ended.enter_context(_spawn(command, stdout=subprocess.PIPE, env=env, cwd=cwd, text=True))
            ended.push(kill_after_error)
        for line in program.stdout or ():
            kept.write(line)
            on_line(line)
        return program.wait()


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Ctrl-C and SIGTERM take effect at the end of the block: what it starts is either not there or taken over.

    Python runs hooks of other modules around a fork and drops what they raise, so a KeyboardInterrupt that
    arrives there would be lost. Outside the main thread, which alone handles signals, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, lambda number, _frame: arrived.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])


def wait_until(condition: Callable[[], bool], timeout_s: float, *, poll_s: float = _POLL_S) -> bool:
    """Whether `condition` became true within the time; asked once more at its end."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(poll_s)
    return condition()


def log_text(path: Path) -> str:
    """All of a log; empty when it is not there yet."""
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def tail(path: Path, lines: int = 15) -> str:
    """The last lines of a text file; empty when it is not there."""
    if not path.exists():
        return ""
    with path.open("rb") as handle:
        handle.seek(max(0, path.stat().st_size - 64_000))
        text = handle.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def _spawn(
    argv: Sequence[str | Path],
    *,
    stdout: Any,
    env: Mapping[str, str] | None,
    cwd: Path | None,
    tied: bool = True,
    text: bool = False,
) -> subprocess.Popen[Any]:
    """Start a program in a session of its own, its errors among its output; `tied`: Linux ends it with us."""
    with interrupts_held_back():
        return subprocess.Popen(
            [str(word) for word in argv],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=text,
            env=None if env is None else dict(env),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=_die_with_parent() if tied else None,
        )


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _die_with_parent() -> Callable[[], None] | None:
    """What the new process runs before the program: ask Linux for SIGKILL when the starting thread ends."""
    libc = _LIBC
    if libc is None or threading.current_thread() is not threading.main_thread():
        return None
    parent = os.getpid()

    def tie() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return tie
