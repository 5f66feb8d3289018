"""What broker, object store and the cluster's processes have in common: one loopback port, one process."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.errors import InfrastructureUnavailable
from pipelines.local.ports import LOOPBACK
from pipelines.local.processes import Child, tail, wait_until

START_LIMIT_S = 90.0
_REASON_LINES = 60


class LocalServer(ABC):
    """A server that keeps its address and its data over `restart`; a context manager that stops it."""

    name: str

    def __init__(self, *, port: int, log: Path, detached: bool = False) -> None:
        self.port = port
        self.log = log
        self._detached = detached
        self._child: Child | None = None

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client can use it now."""

    @abstractmethod
    def _start_process(self) -> Child:
        """Start the program without waiting for it."""

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the last start. Raises ValueError before the first."""
        if self._child is None:
            raise ValueError(f"{self.name} was never started")
        return self._child.pid

    def is_running(self) -> bool:
        """Whether the process lives; it may still be starting."""
        return self._child is not None and self._child.is_running()

    def launch(self) -> None:
        """Start the process without waiting until it answers. Raises RuntimeError when it runs already."""
        if self.is_running():
            raise RuntimeError(f"{self.name} at {self.address} runs already")
        self._child = self._start_process()

    def wait_ready(self, timeout_s: float = START_LIMIT_S) -> None:
        """Wait until it answers; when it does not, kill it and raise InfrastructureUnavailable."""
        try:
            ready = wait_until(lambda: not self.is_running() or self.answers(), timeout_s)
            if not (ready and self.is_running()):
                raise InfrastructureUnavailable(self._why_not(timeout_s))
        except BaseException:
            self.kill()
            raise

    def start(self) -> Self:
        """`launch` and `wait_ready`."""
        self.launch()
        self.wait_ready()
        return self

    def stop(self, grace_s: float = 20.0) -> None:
        """Shut it down in order; kill it when that takes longer than `grace_s`. A stopped one stays so."""
        if self._child is not None:
            self._child.stop(grace_s)

    def kill(self) -> None:
        """SIGKILL, as a crash."""
        if self._child is not None:
            self._child.kill()

    def restart(self, *, down_s: float = 0.0) -> None:
        """Stop it if it still runs, stay down for `down_s`, start it on the same port and data, and wait."""
        self.stop()
        time.sleep(down_s)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _why_not(self, timeout_s: float) -> str:
        problem = f"does not answer after {timeout_s:.0f} s" if self.is_running() else "ended at its start"
        output = "" if self._child is None else self._child.log_tail(_REASON_LINES)
        lines = (tail(self.log, _REASON_LINES) or output).splitlines()
        reasons = [line.strip() for line in lines if line[:1].strip()][-2:]  # stack frames are indented
        said = " | ".join(reasons) or "no output"
        return f"{self.name} at {self.address} {problem}: {said} (whole log: {self.log})"
