"""On what a figure was measured: machine, versions, commit."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.venvs import requirement
from pipelines.local.cache import pinned
from pipelines.local.java import java_version, require_java

_ROOT = Path(__file__).parents[1]


def machine() -> dict[str, Any]:
    """Cores, memory, processor, and how busy it was when asked."""
    model = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    total = [line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    return {
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(total[0]) / 2**20, 1) if total else None,
        "processor": model[0] if model else platform.processor(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def versions() -> dict[str, str]:
    """Versions of everything that takes part."""
    ours = {name: version(name) for name in ("gridwatch", "pyspark", "delta-spark", "deltalake", "numpy")}
    jars = {key: pinned("benchmarks", key).rsplit(":", 1)[1] for key in ("kafka_streams", "flink_kafka")}
    peers = {name: requirement(name).partition("==")[2] for name in ("apache-flink", "quixstreams")}
    return {
        "python": platform.python_version(),
        "java": java_version(require_java()),
        "kafka": pinned("broker", "kafka").rsplit(":", 1)[1],
        **ours, **jars, **peers,
    }  # fmt: skip


def command(module: str, words: Sequence[str]) -> str:
    """The command of a run, to be given again; of a path on this machine only its name.

    >>> command("benchmarks", ["steady", "--report", "/var/lib/steady.json"])
    'python -m benchmarks steady --report steady.json'
    """
    return shlex.join(["python", "-m", module, *(Path(w).name if Path(w).is_absolute() else w for w in words)])


def commit() -> str | None:
    """The checkout's commit, with `+` when files differ from it; None outside a checkout."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return head and head + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []
