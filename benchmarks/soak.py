"""Both jobs under steady traffic for an hour, with upkeep every few minutes: memory, files, lag over time."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.candidates import Place
from benchmarks.latency import check_anomalies, first_of_each
from benchmarks.live import JOBS, SHARED_MACHINE, Live, Traffic, deployment
from benchmarks.pace import Every
from benchmarks.report import SAMPLES
from benchmarks.soak_chores import EXERCISED, LateReadings, age_logs, plant_orphans, upkeep_done
from benchmarks.soak_curves import as_columns, draw, judged
from benchmarks.soak_probe import Probe, Row
from pipelines.errors import InfrastructureUnavailable
from pipelines.local.ports import free_ports
from pipelines.local.processes import LocalParts, log_text

WARM_UP_S = 600
ROUNDS = 12
"""Rounds of upkeep in a run; none comes sooner than after `_SHORTEST_S`."""

_SAMPLE_S, _LATE_S, _TOLD_S, _AGED_S = 15, 5, 60, 60
_SHORTEST_S = 20
_YOUNG_S = 60
"""Log objects younger than this are never made older: a reader may still need them."""
_DRAIN_LIMIT_S, _STOP_LIMIT_S = 600, 40


def soak(place: Place, traffic: Traffic, broker: int, figures: dict[str, Any]) -> dict[str, Any]:
    """Fill `figures` and return it; what was sampled is in it also when the run fails or is interrupted.

    `broker`: its process id. Raises WrongAnswer when a reading is not accounted for, stands twice, or when an anomaly
    is missing, GridwatchError when a job ends. Each sample is also appended to `samples.jsonl` in the run's folder.
    """
    warm_s, every_s = min(WARM_UP_S, traffic.seconds / 6), max(_SHORTEST_S, traffic.seconds // ROUNDS)
    aged_s = max(_YOUNG_S, warm_s)
    figures |= {
        "rate": traffic.rate, "meters": traffic.meters, "seconds": traffic.seconds, "warm_up_s": round(warm_s),
        "upkeep_every_s": every_s, "log_aged_after_s": round(aged_s), "began": _utc_now(),
    }  # fmt: skip
    with deployment(place, "soak", traffic, **_settings(every_s)) as (live, parts):
        for job in JOBS:
            live.start_job(parts, job)
        with Probe(live, broker) as probe, LateReadings(live.settings) as late:
            run = _Run(live, parts, probe, late, aged_s)
            try:
                figures |= run.watch()
                figures |= run.finish()
            except KeyboardInterrupt:
                figures["interrupted"] = True
                raise
            finally:
                samples = as_columns(probe.rows)
                figures |= {"ended": _utc_now(), "upkeep": run.upkeep(), "exercised": EXERCISED}
                figures |= judged(samples, warm_s) | {SAMPLES: samples}
    return figures


def picture(figures: dict[str, Any], path: Path) -> bool:
    """Draw what `soak` has found; False without samples or without matplotlib."""
    if not figures.get(SAMPLES):
        return False
    title = f"soak: {figures['rate']:,} readings/s for {figures['seconds'] / 60:.0f} min"
    return draw(figures[SAMPLES], path, title=title, warm_s=figures["warm_up_s"])


class _Run:
    """The jobs read; the traffic begins with `watch`."""

    def __init__(self, live: Live, parts: LocalParts, probe: Probe, late: LateReadings, aged_s: float) -> None:
        self._live, self._parts, self._probe, self._late, self._aged_s = live, parts, probe, late, aged_s
        self._aged = self._late_sent = 0
        self._planted = plant_orphans(live.settings, time.time())

    def watch(self) -> dict[str, Any]:
        """Sample until the producer has sent all."""
        live, is_archived = self._live, False
        live.start_traffic(self._parts)
        assert live.producer is not None
        sample, late, told, aged = (Every(seconds) for seconds in (_SAMPLE_S, _LATE_S, _TOLD_S, _AGED_S))
        while live.producer.is_running():
            if sample():
                row = self._sample()
                is_archived = is_archived or bool(row["readings.files"])
                if told():
                    self._tell(row)
            if is_archived and late():
                self._late.send(time.time())
            if aged():
                self._aged += age_logs(live.settings, after_s=self._aged_s, now=time.time())
            live.require_jobs()
            live.producer.wait(1)
        if code := live.producer.stop():
            raise InfrastructureUnavailable(f"the load producer ended with {code}: {live.producer.log_tail(3)}")
        self._late_sent = self._late.settle()
        return {"lag_end": self._sample()["lag"], "log_objects_aged": self._aged, "late_sent": self._late_sent}

    def finish(self) -> dict[str, Any]:
        """Let all be archived and said, end the jobs by SIGTERM, and compare."""
        drain_s = self._live.drain(_DRAIN_LIMIT_S)
        stopped = {}
        for command, child in reversed(self._live.jobs.items()):
            began = time.monotonic()
            code = child.stop(grace_s=_STOP_LIMIT_S)
            stopped[JOBS[command]] = {"exit_code": code, "seconds": round(time.monotonic() - began, 1)}
        return {"drain_s": round(drain_s, 1), "stopped": stopped, "answer": self._answer()}

    def upkeep(self) -> list[dict[str, Any]]:
        """What upkeep has done so far, a row a table."""
        return upkeep_done(log_text(self._live.folder / "run.log"), self._probe.maintained, self._planted)

    def _answer(self) -> dict[str, Any]:
        """Raises WrongAnswer. The model knows no late reading: if some of the traffic came late, anomalies are not
        compared with it."""
        live, found = self._live, self._live.verified()
        records = live.anomalies()
        unique, came_late = first_of_each(records), found.late - self._late_sent
        if not came_late:
            check_anomalies(live, unique, live.expected())
        return {
            "archived": found.archived, "rejected": found.rejected, "unaccounted": found.unaccounted,
            "duplicates": found.duplicates, "late": found.late,
            "anomalies": len(unique), "repeated": len(records) - len(unique), "anomalies_compared": not came_late,
        }  # fmt: skip

    def _sample(self) -> Row:
        row = self._probe.take()
        with (self._live.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        return row

    def _tell(self, row: Row) -> None:
        lag = "unknown" if row["lag"] is None else f"{row['lag']:,}"
        memory = ", ".join(f"{name} {row[f'rss_mib.{name}']:,.0f}" for name in (*JOBS.values(), "broker"))
        minutes = f"{self._probe.passed_s / 60:.0f} of {self._live.traffic.seconds / 60:.0f} min"
        self._live.place.say(f"soak: {minutes}, lag {lag}; MiB: {memory}; {row['files.live']} live files")


def _settings(upkeep_s: int) -> dict[str, str]:
    port, alerts_port = free_ports(2)
    return SHARED_MACHINE | {
        "GRIDWATCH_UPKEEP__EVERY": str(upkeep_s),
        "GRIDWATCH_METRICS__PORT": str(port),
        "GRIDWATCH_METRICS__ALERTS_PORT": str(alerts_port),
    }


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
