"""How the windows' state grows with the fleet: rows, memory, bytes of the checkpoint, time of a batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.candidates import Place, product_environment, start_module
from benchmarks.engines.state import DONE, PROGRESS
from benchmarks.load import SLIDE_S, WINDOW_S, Load
from benchmarks.measure import WrongAnswer, time_engine

TICKS = 6
"""Readings of each meter, one a minute: enough that a pane is open and every window of those before it."""


def state(place: Place, fleets: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row a fleet, smallest first."""
    return [_of(place, Load(TICKS * meters, meters, cadence_s=SLIDE_S, closes=False)) for meters in sorted(fleets)]


def _of(place: Place, load: Load) -> dict[str, Any]:
    place.fill(load)
    job = place.job("state", load)
    environment = product_environment(job.bootstrap, job.folder, readings=job.topic, suffix=job.folder.name)
    del environment["GRIDWATCH_LAKE__FLEET"]
    log = job.folder / "engine.log"
    timing = time_engine(
        f"state-{load.meters}",
        lambda: start_module(job, "benchmarks.engines.state", environment=environment),
        readings=load.readings,
        is_done=lambda: log.exists() and DONE in log.read_text(encoding="utf-8", errors="replace"),
        limit_s=place.limit_s,
        say=place.say,
    )
    return _row(load, _progress(log), job.folder / "checkpoint") | {"seconds": round(timing.seconds, 1)}


def _progress(log: Path) -> list[dict[str, Any]]:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [json.loads(line.removeprefix(PROGRESS)) for line in lines if line.startswith(PROGRESS)]


def _row(load: Load, batches: list[dict[str, Any]], checkpoint: Path) -> dict[str, Any]:
    """Figures at the end of the load. `bytes`: what the state store says it holds in memory and on disk, RocksDB's
    own files as `checkpoint_bytes`; `batch_ms`: the longest batch with readings."""
    operators = batches[-1]["stateOperators"]
    expected = load.meters * WINDOW_S // SLIDE_S
    found, size = (sum(operator[name] for operator in operators) for name in ("numRowsTotal", "memoryUsedBytes"))
    if found != expected:
        raise WrongAnswer(f"{load.meters:,} meters have {found:,} panes and windows open, expected {expected:,}")
    metrics = [
        {
            name: value
            for name, value in operator["customMetrics"].items()
            if "rocksdb" in name and "Latency" not in name
        }
        for operator in operators
    ]
    return {
        "meters": load.meters,
        "rows": found,
        "bytes": size,
        "bytes_a_meter": round(size / load.meters),
        "batch_ms": max(batch["durationMs"]["triggerExecution"] for batch in batches if batch["numInputRows"]),
        "batches": len([batch for batch in batches if batch["numInputRows"]]),
        "checkpoint_bytes": sum(file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()),
        "shuffle_partitions": operators[0]["numShufflePartitions"],
        "metrics": metrics,
    }
