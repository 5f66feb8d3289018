"""The member of the alerts that a pipeline starts: a supervised child process that does not outlive it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, MemberFenced, SettingsError
from pipelines.restarts import Restarts
from pipelines.settings import Settings

Say = Callable[[str], None]

_STOP_WITHIN_S = 15.0
_COMMAND = (sys.executable, "-m", "pipelines.alerts")


class AlertsEnded(GridwatchError):
    """The alerts have given up; the exit code is theirs."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class AlertsChild:
    """Runs from the beginning of the block to its end, and is started again when it fails: with pauses of 1, 2, 4 ...
    60 s, `alerts.max_restarts` times in a row. `problem` says that it has given up.

    It ends when its standard input does, so also when this process is killed. A signal to the terminal's or the
    pipeline's process group does not reach it.
    """

    def __init__(self, settings: Settings, name: str, say: Say, *, command: Sequence[str] = _COMMAND) -> None:
        self.problem: AlertsEnded | None = None
        # As long as the pipeline waits for Kafka and the store, so does its member, and that does not count.
        kafka = settings.kafka.model_copy(update={"connect_timeout": settings.pipeline.max_outage})
        self._given = pickle.dumps((settings.model_copy(update={"kafka": kafka}), name))
        self._say = say
        self._command = command
        self._restarts = Restarts(settings.alerts.max_restarts)
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._supervise, name="gridwatch-alerts", daemon=True)

    @property
    def pid(self) -> int | None:
        """Process id of the running life."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it in order: what it has sent is acknowledged and committed first."""
        with self._lock:
            self._stopped.set()
            process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._thread.join(_STOP_WITHIN_S)

    def _supervise(self) -> None:
        while (process := self._start()) is not None:
            code = process.wait()
            assert process.stdin is not None
            process.stdin.close()
            if self._stopped.is_set() or not self._goes_on(code):
                return

    def _start(self) -> subprocess.Popen[bytes] | None:
        """Another life; None once the end was asked for."""
        environment = dict(os.environ) | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "POLARS_MAX_THREADS": "1",
        }
        with self._lock:
            if self._stopped.is_set():
                return None
            self._restarts.began()
            process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=sys.stderr, env=environment, start_new_session=True
            )
            self._process = process
        assert process.stdin is not None
        try:
            process.stdin.write(self._given)
            process.stdin.flush()
        except BrokenPipeError:  # it has ended already, which is looked at next
            pass
        self._say(f"alerts run as process {process.pid} (alerts.with_pipeline)")
        return process

    def _goes_on(self, code: int) -> bool:
        """After an end that nobody asked for: pause, and whether there is another life."""
        if code == MemberFenced.exit_code:
            self._say("the alerts of this pipeline have ended; the pipeline goes on")
            return False
        ended = f"the alerts ended with {_described(code)}"
        pause_s = None if code in _FINAL else self._restarts.pause_s()
        if pause_s is None:
            self.problem = AlertsEnded(f"{ended}; their last line says why", code if code > 0 else _KILLED)
            return False
        self._say(f"{ended}; restart {self._restarts.in_a_row} of {self._restarts.most} in {pause_s:g} s")
        return not self._stopped.wait(pause_s)


_FINAL = (SettingsError.exit_code, DataRefused.exit_code)
_KILLED = InfrastructureUnavailable.exit_code


def _described(code: int) -> str:
    """An exit code of a process.

    >>> _described(4), _described(-9)
    ('exit code 4', 'signal 9')
    """
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
