"""10,000 readings a second for minutes, pipeline and alerts: latencies, lag, cores, memory; then a storm."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.candidates import Place
from benchmarks.cpu import Cores
from benchmarks.latency import check_anomalies, first_of_each, reading_latencies, sent_latencies, window_latencies
from benchmarks.live import JOBS, SHARED_MACHINE, Live, Traffic, deployment
from benchmarks.trees import processes, pss_mb
from pipelines.local.processes import LocalParts

WARM_UP_S = 60
_TOLD_S = 15
_DRAIN_LIMIT_S = 600
_BEFORE_STORM_S = 3
"""The calm part is measured until so long before its end."""


def steady(place: Place, traffic: Traffic, broker: int) -> dict[str, Any]:
    """Figures of the calm part after a minute of warm-up (a third, when it is shorter), and of the storm after it.

    `broker`: its process id. Raises WrongAnswer when a reading is not accounted for, or an anomaly is missing.
    """
    warm_s = min(WARM_UP_S, traffic.seconds // 3)
    with deployment(place, "steady", traffic, **SHARED_MACHINE) as (live, parts):
        for job in JOBS:
            live.start_job(parts, job)
        taken, lag_end = _watch(live, parts, broker, warm_s)
        drain_s = live.drain(_DRAIN_LIMIT_S)
        for child in reversed(live.jobs.values()):
            child.stop(grace_s=20)
        return {
            "rate": traffic.rate, "seconds": traffic.seconds, "warm_up_s": warm_s, **_figures(live, warm_s),
            "lag_end": lag_end, "drain_s": round(drain_s, 1), **taken,
        }  # fmt: skip


def _watch(live: Live, parts: LocalParts, broker: int, warm_s: int) -> tuple[dict[str, Any], int]:
    """Cores of each part between warm-up and storm with its memory at the end of that, and the archive's lag when the
    traffic ends."""
    live.start_traffic(parts)
    assert live.producer is not None
    calm_s = live.traffic.seconds - live.traffic.storm_s
    began, told, taken = time.monotonic(), 0.0, dict[str, Any]()
    pids = live.pids() | {"broker": broker, "generator": live.producer.pid}
    cores: Cores | None = None
    while live.producer.is_running():
        passed = time.monotonic() - began
        if cores is None and passed >= warm_s:
            cores = Cores.start(**pids)
        elif cores and not taken and passed >= calm_s - _BEFORE_STORM_S:
            known = processes()
            taken = {"cores": cores.read(), "pss_mb": {name: pss_mb(pid, known) for name, pid in pids.items()}}
        if passed - told >= _TOLD_S:
            told = passed
            live.place.say(f"steady: {passed:.0f} of {live.traffic.seconds} s, lag {live.sent() - live.archived():,}")
        live.require_jobs()
        live.producer.wait(1)
    return taken, live.sent() - live.archived()


def _figures(live: Live, warm_s: int) -> dict[str, Any]:
    live.verified()
    records = live.anomalies()
    unique = first_of_each(records)
    check_anomalies(live, unique, live.expected())
    t = live.traffic
    since, storm, end = (live.start_ms + 1000 * s for s in (warm_s, t.seconds - t.storm_s, t.seconds + 3600))
    figures: dict[str, Any] = {
        "reading_ms": reading_latencies(unique, since, storm),
        "reading_from_due_ms": sent_latencies(unique, since, storm),
        "window_ms": window_latencies(live, [r for r in unique if r[0]["eventTime"] < storm], since),
        "repeated": len(records) - len(unique),
    }
    if t.storm_s:
        figures["storm"] = {"seconds": t.storm_s, "reading_ms": reading_latencies(unique, storm, end)}
    return figures
