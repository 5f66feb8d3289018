"""kill -9 of a job under traffic: how long until it speaks again, until it has caught up, and what was lost."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.candidates import Place
from benchmarks.latency import check_anomalies, first_of_each
from benchmarks.live import Live, Traffic, deployment, has_alerts
from benchmarks.measure import Outlet
from pipelines.local.processes import LocalParts, wait_until
from pipelines.verify import verify

_LIMIT_S = 300.0
_SETTLE_S = 4.0
NAMES = {"pipeline": "run", "alerts": "alerts"}


def recovery(place: Place, *, rate: int, warm_s: int) -> dict[str, Any]:
    """Each job killed once, in a deployment of its own; a job this gridwatch does not have is left out."""
    return {name: _kill(place, name, rate, warm_s) for name in NAMES if name == "pipeline" or has_alerts()}


def _kill(place: Place, name: str, rate: int, warm_s: int) -> dict[str, Any]:
    traffic = Traffic(rate, warm_s + 120)
    with deployment(place, f"recovery-{name}", traffic) as (live, parts):
        for job in ["run", *(["alerts"] if has_alerts() else [])]:
            live.start_job(parts, job)
        live.start_traffic(parts)
        assert live.producer is not None
        behind = _usual_lag(live, warm_s)
        place.say(f"recovery: kill -9 of the {name} at {rate:,} readings/s")
        said = _outputs(live, name)
        killed = time.monotonic()
        live.jobs.pop(NAMES[name]).kill()
        figures = _watch(live, parts, name, killed, said, behind)
        live.producer.wait(_LIMIT_S)
        live.drain(_LIMIT_S)
        time.sleep(_SETTLE_S)
        return figures | _losses(live)


def _usual_lag(live: Live, warm_s: int) -> int:
    """The largest lag in the second half of the warm-up."""
    assert live.producer is not None
    live.producer.wait(warm_s / 2)
    lags, until = [0], time.monotonic() + warm_s / 2
    while time.monotonic() < until:
        lags.append(live.sent() - live.archived())
        live.wait(lambda: True, 1, "nothing")
        time.sleep(1)
    return max(lags)


def _watch(live: Live, parts: LocalParts, name: str, killed: float, said: int, behind: int) -> dict[str, Any]:
    live.start_job(parts, NAMES[name])
    ready_s = time.monotonic() - killed
    wait_until(lambda: _outputs(live, name) > said, _LIMIT_S, poll_s=0.1)
    first_s = time.monotonic() - killed
    wait_until(lambda: live.sent() - live.archived() <= behind, _LIMIT_S, poll_s=0.3)
    caught_up_s = time.monotonic() - killed
    live.place.say(f"recovery: {name} speaks after {first_s:.1f} s, has caught up after {caught_up_s:.1f} s")
    return {
        "ready_s": round(ready_s, 1),
        "first_output_s": round(first_s, 1),
        "caught_up_s": round(caught_up_s, 1),
        "usual_lag": behind,
    }


def _outputs(live: Live, name: str) -> int:
    """What the job has put out: records it archived, or anomalies in Kafka (the pipeline's come rarely beside it)."""
    if name == "pipeline":
        return live.archived()
    with Outlet(live.place.bootstrap, live.settings.kafka.topics.anomalies) as outlet:
        return outlet.count()


def _losses(live: Live) -> dict[str, Any]:
    """Readings lost or stored twice, anomalies lost (none: else WrongAnswer) and records of one sent again."""
    checked = verify(live.settings)
    records = live.anomalies()
    unique = first_of_each(records)
    check_anomalies(live, unique, live.expected())
    return {
        "lost": checked.unaccounted + checked.lag,
        "stored_twice": checked.duplicates,
        "repeated": len(records) - len(unique),
    }
