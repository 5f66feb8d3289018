"""How the windows' state grows with the fleet: rows, memory, bytes of the checkpoint, the longest batch."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from benchmarks.candidates import Place
from benchmarks.live import Live, Traffic, deployment
from benchmarks.load import SLIDE_S, Load
from benchmarks.product import RUN
from benchmarks.scale_probe import ScaleProbe
from pipelines.errors import InfrastructureUnavailable
from pipelines.local.ports import free_ports
from pipelines.observe.resources import folder_size

TICKS = 6
"""Readings of each meter, one a minute: enough that a pane is open and every window of those before it."""
_POLL_S = 1.0


def state(place: Place, fleets: tuple[int, ...], broker: int) -> list[dict[str, Any]]:
    """One row a fleet, smallest first. `broker`: its process id."""
    return [_of(place, Load(TICKS * meters, meters, cadence_s=SLIDE_S, closes=False), broker) for meters in fleets]


def _of(place: Place, load: Load, broker: int) -> dict[str, Any]:
    place.fill(load)
    more = {
        "GRIDWATCH_KAFKA__TOPICS__READINGS": load.topic,
        "GRIDWATCH_METRICS__PORT": str(free_ports(1)[0]),
    }
    traffic = Traffic(load.meters // load.cadence_s, 1, meters=load.meters)
    with deployment(place, f"state-{load.meters}", traffic, **more) as (live, parts):
        live.start_job(parts, RUN)
        probe, began = ScaleProbe(live, broker), time.monotonic()
        _drain(live, load, probe)
        seconds = time.monotonic() - began
        live.jobs[RUN].stop(grace_s=40)
        live.verified()
        return _row(load, probe, Path(live.settings.pipeline.checkpoint)) | {"seconds": round(seconds, 1)}


def _drain(live: Live, load: Load, probe: ScaleProbe) -> None:
    """Sample until all is archived and the last window that can close has closed."""
    settings, began, told = live.settings.detection, time.monotonic(), 0.0
    last_ms = load.start_ms + ((load.ticks - 1) * load.meters + load.meters - 1) * 1000 * load.cadence_s // load.meters
    slide_ms = int(settings.slide_s * 1000)
    closable_ms = (last_ms - int(settings.watermark * 1000)) // slide_ms * slide_ms
    while live.archived() < load.records or live.last_tick() < closable_ms:
        probe.take()
        live.require_jobs()
        passed = time.monotonic() - began
        if passed > live.place.limit_s:
            raise InfrastructureUnavailable(f"{load.meters:,} meters were not done after {passed:.0f} s")
        if passed - told > 15:
            told = passed
            live.place.say(f"state: {load.meters:,} meters, {probe.archived():,} of {load.records:,} stored")
        time.sleep(_POLL_S)
    probe.take()


def _row(load: Load, probe: ScaleProbe, checkpoint: Path) -> dict[str, Any]:
    """Figures at the end of the load. `bytes`: what the state store says it holds in memory; RocksDB's own files are in
    `checkpoint_bytes`. `batch_ms`: the longest batch of windows."""
    size = int(probe.most["state_memory_bytes"])
    windows = probe.batches["windows"]
    return {
        "meters": load.meters,
        "rows": int(probe.most["state_rows"]),
        "bytes": size,
        "bytes_a_meter": round(size / load.meters),
        "checkpoint_bytes": folder_size(checkpoint)[0],
        "batch_ms": round(1000 * max((batch["seconds"] for batch in windows), default=0.0)),
        "batches": len(windows),
    }
