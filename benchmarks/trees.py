"""CPU time, memory, threads and open files of a process and all its descendants, from /proc."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

_PAGE, _TICKS_PER_S = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_PPID, _UTIME, _CSTIME, _THREADS, _RSS = 1, 11, 14, 17, 21
"""Fields of /proc/PID/stat after the command, counted from 0; from user to children's system time it is CPU."""


@dataclass(frozen=True)
class Process:
    """One process."""

    parent: int
    threads: int
    rss_bytes: int
    cpu_s: float
    """Its own and that of children it has waited for."""


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
        cpu_s = sum(int(field) for field in fields[_UTIME : _CSTIME + 1]) / _TICKS_PER_S
        found[int(name)] = Process(int(fields[_PPID]), int(fields[_THREADS]), int(fields[_RSS]) * _PAGE, cpu_s)
    return found


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


def family(pid: int, known: Mapping[int, Process]) -> dict[int, Process]:
    """A process of `processes()` and everything below it, by id; empty when it is gone."""
    members = descendants(pid, {number: process.parent for number, process in known.items()})
    return {number: known[number] for number in members if number in known}


def tree(pid: int, known: Mapping[int, Process]) -> Tree:
    """What a process of `processes()` and everything below it takes; zeros when it is gone."""
    living = family(pid, known)
    return Tree(
        round(sum(process.rss_bytes for process in living.values()) / 2**20, 1),
        sum(process.threads for process in living.values()),
        sum(_open_files(number) for number in living),
    )


def pss_mb(pid: int, known: Mapping[int, Process]) -> float | None:
    """Proportional memory of a process of `processes()` and everything below it, in MB: a page that n of them share
    counts once, one that others share too in part. None where the kernel does not tell."""
    found = [_pss_kib(number) for number in family(pid, known)]
    told = [kib for kib in found if kib is not None]
    return round(sum(told) * 1024 / 1e6, 1) if told else None


def _pss_kib(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
            return next((int(line.split()[1]) for line in rollup if line.startswith("Pss:")), None)
    except OSError:  # it ended meanwhile, or is not ours
        return None


def _open_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0
