"""kill -9 of pipeline or alerts under traffic: time to the first output and to the usual lag, what was lost."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.candidates import Place
from benchmarks.latency import Record, check_anomalies, first_of_each
from benchmarks.live import JOBS, SHARED_MACHINE, Live, Traffic, deployment
from pipelines.reconcile.verify import verify

_LIMIT_S = 300.0
_AFTER_S = 120
_USUAL_MS = 20_000
_IN_FLIGHT_MS = 200
"""What a producer had sent before it was killed may still be appended so long after."""


def recovery(place: Place, *, rate: int, warm_s: int) -> dict[str, Any]:
    """Each job killed once, in a deployment of its own."""
    return {name: _kill(place, name, command, rate, warm_s) for command, name in JOBS.items()}


def _kill(place: Place, name: str, command: str, rate: int, warm_s: int) -> dict[str, Any]:
    with deployment(place, f"recovery-{name}", Traffic(rate, warm_s + _AFTER_S), **SHARED_MACHINE) as (live, parts):
        for job in JOBS:
            live.start_job(parts, job)
        live.start_traffic(parts)
        assert live.producer is not None
        usual_lag = _usual_lag(live, warm_s)
        place.say(f"recovery: kill -9 of the {name} at {rate:,} readings/s, usual lag {usual_lag:,}")
        before, killed_ms = live.archived(), time.time() * 1000
        live.jobs.pop(command).kill()
        live.start_job(parts, command)
        figures: dict[str, Any] = {"ready_s": _since(killed_ms)}
        if name == "pipeline":
            figures |= _archive_times(live, killed_ms, before, usual_lag)
        live.producer.wait(_LIMIT_S)
        live.drain(_LIMIT_S)
        records = live.anomalies()
        unique = first_of_each(records)
        check_anomalies(live, unique, live.expected())
        if name == "alerts":
            figures |= alert_times(unique, killed_ms)
        place.say(f"recovery: {name}: {figures}")
        checked = verify(live.settings)
        return figures | {
            "lost": checked.unaccounted + checked.lag,
            "stored_twice": checked.duplicates,
            "repeated": len(records) - len(unique),
        }


def alert_times(unique: list[Record], killed_ms: float) -> dict[str, float | None]:
    """Seconds from the kill to the first anomaly of a reading, and to the first that is no later after its reading
    than the latest of the 20 s before the kill; by broker times."""
    times = sorted((at, at - event["source"]["timestamp"]) for event, at in unique if event["stage"] == "reading")
    usual = max((late for at, late in times if killed_ms - _USUAL_MS <= at < killed_ms), default=0)
    after = [(at, late) for at, late in times if at > killed_ms + _IN_FLIGHT_MS]
    first = next((at for at, _ in after), None)
    caught_up = next((at for at, late in after if late <= usual), None)
    return {
        "first_output_s": None if first is None else round((first - killed_ms) / 1000, 2),
        "caught_up_s": None if caught_up is None else round((caught_up - killed_ms) / 1000, 2),
    }


def _usual_lag(live: Live, warm_s: int) -> int:
    """The archive's largest lag in the second half of the warm-up."""
    assert live.producer is not None
    live.producer.wait(warm_s / 2)
    lags, until = [0], time.monotonic() + warm_s / 2
    while time.monotonic() < until:
        lags.append(live.sent() - live.archived())
        live.require_jobs()
        time.sleep(0.5)
    return max(lags)


def _archive_times(live: Live, killed_ms: float, before: int, usual_lag: int) -> dict[str, float]:
    """Seconds from the kill to the first batch in the tables, and until the lag is no larger than before."""
    live.wait(lambda: live.archived() > before, _LIMIT_S, "the first batch after the kill")
    first_s = _since(killed_ms)
    live.wait(lambda: live.sent() - live.archived() <= usual_lag, _LIMIT_S, "the lag of before the kill")
    return {"first_output_s": first_s, "caught_up_s": _since(killed_ms), "usual_lag": usual_lag}


def _since(wall_ms: float) -> float:
    return round(time.time() - wall_ms / 1000, 1)
