"""What one pipeline and its broker take while they work: CPU, memory, bytes moved, batches, state."""

from __future__ import annotations

import re
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.live import Live
from benchmarks.soak_probe import scrape
from benchmarks.trees import family, processes
from pipelines.local.java import require_java

QUERIES = ("archive", "windows", "incidents")
_BATCHES, _BATCH_S, _RECORDS = (
    f"gridwatch_{name}"
    for name in ("batch_duration_seconds_count", "batch_duration_seconds_sum", "input_records_total")
)
_STATE = {
    "state_rows": "gridwatch_state_rows",
    "state_memory_bytes": "gridwatch_state_bytes",
    "state_disk_bytes": "gridwatch_state_disk_bytes",
}
_SINK_S, _RESTARTS = "gridwatch_sink_duration_seconds_sum", "gridwatch_restarts_total"
_FAMILIES = (_BATCHES, _BATCH_S, _RECORDS, *_STATE.values(), _SINK_S, _RESTARTS)
_USED_KIB = re.compile(r"(?:PSYoungGen|ParOldGen)\s+total \d+K, used (\d+)K")


@dataclass
class ScaleProbe:
    """Follows the job `run` of a deployment from the moment it is made; `take` must come at least every few seconds."""

    live: Live
    broker: int
    """Process id of the broker."""
    batches: dict[str, list[dict[str, float]]] = field(default_factory=lambda: defaultdict(list))
    """Of each query, in order: `seconds` and `records`; of batches that ended between two samples their means."""
    most: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    """Largest state seen, by name."""
    sinks: dict[str, float] = field(default_factory=dict)
    """Seconds of all writes so far, by kind and target."""
    restarts: float = 0
    _last: dict[tuple[str, str], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pids = self._find()
        self._cpu_before, self._moved_before = self._cpu(), self._moved()

    def take(self) -> None:
        """Read the metrics once; a job that does not answer is read the next time."""
        found = scrape(self.live.settings.metrics.port, _FAMILIES)
        now = {(s.name, s.labels["query"]): s.value for s in found if s.name in (_BATCHES, _BATCH_S, _RECORDS)}
        for query in QUERIES:
            self._enter(query, now)
        for name, metric in _STATE.items():
            values = [sample.value for sample in found if sample.name == metric]
            self.most[name] = max(self.most[name], sum(values))
        self.sinks |= {f"{s.labels['kind']} {s.labels['sink']}": s.value for s in found if s.name == _SINK_S}
        self.restarts = max(self.restarts, sum(s.value for s in found if s.name == _RESTARTS))

    def archived(self) -> int:
        """Records of the archive's batches that have ended."""
        return int(self._last.get((_RECORDS, "archive"), 0))

    def figures(self) -> dict[str, Any]:
        """CPU seconds and MB moved since the probe was made; peaks since the start of each process, in MiB."""
        cpu, moved = self._cpu(), self._moved()
        return {
            "cpu_s": {name: round(cpu[name] - self._cpu_before[name], 1) for name in cpu},
            "peak_rss_mib": {name: _peak_mib(pid) for name, pid in self._pids.items()},
            "moved_mb": {
                name: {kind: round((now - self._moved_before[name][kind]) / 1e6) for kind, now in kinds.items()}
                for name, kinds in moved.items()
            },
            "batches": {query: _summed(self.batches[query]) for query in QUERIES},
            "sink_s": {name: round(seconds, 2) for name, seconds in sorted(self.sinks.items()) if seconds > 0},
            **{name: int(value) for name, value in self.most.items()},
            "restarts": int(self.restarts),
        }

    def heap_mib(self) -> int | None:
        """What the pipeline's heap holds after a full collection; None where the JDK's tools are missing."""
        jcmd, pid = require_java().resolve().with_name("jcmd"), str(self._pids["jvm"])
        try:
            subprocess.run([jcmd, pid, "GC.run"], capture_output=True, timeout=60, check=True)
            told = subprocess.run([jcmd, pid, "GC.heap_info"], capture_output=True, timeout=60, check=True, text=True)
        except (OSError, subprocess.SubprocessError):
            return None
        return used_mib(told.stdout)

    def _enter(self, query: str, now: dict[tuple[str, str], float]) -> None:
        keys = [(name, query) for name in (_BATCHES, _BATCH_S, _RECORDS)]
        if any(key not in now for key in keys):
            return
        ended, seconds, records = (now[key] - self._last.get(key, 0.0) for key in keys)
        if ended >= 1:
            self._last |= {key: now[key] for key in keys}
            one = {"seconds": round(seconds / ended, 2), "records": round(records / ended)}
            self.batches[query] += [one] * int(ended)

    def _find(self) -> dict[str, int]:
        python = self.live.jobs["run"].pid
        below = {pid: one.rss_bytes for pid, one in family(python, processes()).items() if pid != python}
        return {"python": python, "jvm": max(below, key=lambda pid: below[pid]), "broker": self.broker}

    def _cpu(self) -> dict[str, float]:
        known = processes()
        return {name: known[pid].cpu_s if pid in known else 0.0 for name, pid in self._pids.items()}

    def _moved(self) -> dict[str, dict[str, int]]:
        return {name: moved(pid) for name, pid in self._pids.items()}


def moved(pid: int) -> dict[str, int]:
    """Bytes a process has read and written by system calls, sockets included, and what of it went to the disk.

    >>> moved(0)
    {'read': 0, 'written': 0, 'disk_written': 0}
    """
    kinds = {"read": "rchar", "written": "wchar", "disk_written": "write_bytes"}
    found = _fields(f"/proc/{pid}/io")
    return {name: int(found.get(kind, "0")) for name, kind in kinds.items()}


def used_mib(heap_info: str) -> int | None:
    """Used MiB of both generations in what `jcmd PID GC.heap_info` prints; None when it prints something else.

    >>> used_mib(" PSYoungGen  total 611840K, used 1024K [0x0]\\n ParOldGen  total 1398272K, used 307200K [0x0]")
    301
    """
    found = _USED_KIB.findall(heap_info)
    return round(sum(map(int, found)) / 1024) if found else None


def _summed(batches: list[dict[str, float]]) -> dict[str, float]:
    seconds = [batch["seconds"] for batch in batches]
    return {
        "n": len(batches),
        "seconds": round(sum(seconds), 1),
        "longest_s": max(seconds, default=0.0),
        "records": round(sum(batch["records"] for batch in batches)),
    }


def _peak_mib(pid: int) -> int:
    return round(int(_fields(f"/proc/{pid}/status").get("VmHWM", "0 kB").split()[0]) / 1024)


def _fields(path: str) -> dict[str, str]:
    """`name: value` lines of a file of /proc; none of a process that is gone."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
