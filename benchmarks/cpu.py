"""CPU time of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _CSTIME = 1, 11, 14
"""Fields of /proc/PID/stat after the command, counted from 0: parent, and user to children's system time."""


def tree_cpu_s(pid: int) -> float:
    """CPU seconds used so far by a process, its living descendants and those of them that were waited for."""
    parents, used = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        parents[int(folder.name)] = int(fields[_PPID])
        used[int(folder.name)] = sum(int(field) for field in fields[_UTIME : _CSTIME + 1])
    return sum(used.get(member, 0) for member in descendants(pid, parents)) / _TICKS_PER_S


def descendants(pid: int, parents: dict[int, int]) -> list[int]:
    """A process and everything below it.

    >>> descendants(2, {2: 1, 3: 2, 4: 3, 5: 1})
    [2, 3, 4]
    """
    children = defaultdict(list)
    for child, parent in parents.items():
        children[parent].append(child)
    found = [pid]
    for one in found:
        found.extend(children[one])
    return found


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
