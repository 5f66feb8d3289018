"""What a fleet costs that sends little: 10,000 meters, each read once a minute, with the default settings."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.candidates import Place
from benchmarks.cpu import Cores
from benchmarks.latency import check_readings, first_of_each
from benchmarks.live import JOBS, Live, Traffic, deployment
from benchmarks.trees import processes, pss_mb
from pipelines.local.processes import LocalParts

WARM_UP_S, MEASURED_S = 600, 300
RATE, METERS = 167, 10_000
"""Readings a second of so many meters, each read once a minute."""
HEALTHY = 100
"""Times fewer meters are odd than in the other measurements, which have 14 odd minutes a meter and day: one in a
minute."""
_TOLD_S = 60.0
_DRAIN_LIMIT_S = 300


def idle(place: Place, broker: int, *, warm_s: int, seconds: int, seed: int) -> dict[str, Any]:
    """Cores and memory of pipeline, alerts and broker in `seconds` of a healthy fleet's traffic after `warm_s` of it.

    `broker`: its process id. Raises WrongAnswer when a reading is not accounted for or its anomaly is missing.
    """
    traffic = Traffic(RATE, warm_s + seconds, meters=METERS, seed=seed, rarer=HEALTHY)
    with deployment(place, "idle", traffic) as (live, parts):
        for job in JOBS:
            live.start_job(parts, job)
        figures = _watch(live, parts, broker, warm_s, seconds)
        live.drain(_DRAIN_LIMIT_S)
        for child in reversed(live.jobs.values()):
            child.stop(grace_s=40)
        live.verified()
        check_readings(first_of_each(live.anomalies()), live.expected())
    shape = {"rate": RATE, "meters": METERS, "odd_a_minute": METERS // (100 * HEALTHY)}
    return {**shape, "warm_up_s": warm_s, "seconds": seconds, **figures}


def _watch(live: Live, parts: LocalParts, broker: int, warm_s: int, seconds: int) -> dict[str, Any]:
    live.start_traffic(parts)
    _wait(live, warm_s, "warm-up")
    pids = live.pids() | {"broker": broker}
    cores = Cores.start(**pids)
    _wait(live, seconds, "measured")
    used, known = cores.read(), processes()
    memory = {name: pss_mb(pid, known) for name, pid in pids.items()}
    assert live.producer is not None
    live.producer.wait(_TOLD_S)
    return {"cores": used, "pss_mb": memory}


def _wait(live: Live, seconds: float, what: str) -> None:
    """Let the traffic flow. Raises GridwatchError when a job ends."""
    began, told = time.monotonic(), 0.0
    while (passed := time.monotonic() - began) < seconds:
        if passed - told >= _TOLD_S:
            told = passed
            live.place.say(f"idle: {what}, {passed:.0f} of {seconds:.0f} s")
        live.require_jobs()
        time.sleep(min(1.0, seconds - passed))
