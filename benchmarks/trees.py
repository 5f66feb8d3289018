"""Memory, threads and open files of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.cpu import descendants

_PAGE = os.sysconf("SC_PAGE_SIZE")
_PPID, _THREADS, _RSS = 1, 17, 21
"""Fields of /proc/PID/stat after the command, counted from 0."""


@dataclass(frozen=True)
class Process:
    """One process."""

    parent: int
    threads: int
    rss_bytes: int


@dataclass(frozen=True)
class Tree:
    """A process and its descendants as one. Pages that they share are counted in each of them."""

    rss_mib: float
    threads: int
    fds: int
    """Open file descriptors."""


def processes() -> dict[int, Process]:
    """Every process of the machine by its id; one that ends meanwhile is left out."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as stat:
                # The name of the program, in parentheses, may hold spaces.
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        found[int(name)] = Process(int(fields[_PPID]), int(fields[_THREADS]), int(fields[_RSS]) * _PAGE)
    return found


def tree(pid: int, known: Mapping[int, Process]) -> Tree:
    """What a process of `processes()` and everything below it takes; zeros when it is gone."""
    members = descendants(pid, {number: process.parent for number, process in known.items()})
    living = {number: known[number] for number in members if number in known}
    return Tree(
        round(sum(process.rss_bytes for process in living.values()) / 2**20, 1),
        sum(process.threads for process in living.values()),
        sum(_open_files(number) for number in living),
    )


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
