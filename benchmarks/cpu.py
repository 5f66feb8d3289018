"""CPU time of a process and all its descendants."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.trees import family, processes


def tree_cpu_s(pid: int) -> float:
    """CPU seconds used so far by a process, its living descendants and those of them that were waited for."""
    return sum(process.cpu_s for process in family(pid, processes()).values())


@dataclass
class Cores:
    """Mean cores that processes have used since `start`, by name."""

    pids: dict[str, int]
    since: float
    before: dict[str, float]

    @classmethod
    def start(cls, **pids: int) -> Cores:
        """Begin to count."""
        return cls(pids, time.monotonic(), {name: tree_cpu_s(pid) for name, pid in pids.items()})

    def read(self) -> dict[str, float]:
        """Cores by name since the start."""
        seconds = time.monotonic() - self.since
        return {name: round((tree_cpu_s(pid) - self.before[name]) / seconds, 3) for name, pid in self.pids.items()}
