"""How fast a full topic is worked off, and what a reading costs: the pipeline as it runs, and the alerts beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.candidates import Place, run_alerts, run_gridwatch
from benchmarks.load import Load
from benchmarks.measure import Timing, marginal_cpu, marginal_rate


@dataclass(frozen=True)
class Drain:
    """Runs over the same loads, smallest first."""

    gridwatch: list[Timing]
    """Archive, windows and incidents."""
    without_windows: list[Timing]
    alerts: list[Timing]
    """One member of the group that catches up, alone."""


def drain(place: Place, loads: list[Load]) -> Drain:
    """Time pipeline and alerts over each load. The broker's CPU is not counted; starts are reported apart."""
    for load in loads:
        place.fill(load)
    return Drain(
        [run_gridwatch(place, load) for load in loads],
        [run_gridwatch(place, load, windows=False) for load in loads],
        [run_alerts(place, load) for load in loads],
    )


def summary(runs: Drain) -> dict[str, Any]:
    """The report's fields: throughput of the largest run, CPU a million readings between smallest and largest.

    `alerts_cpu_s_per_million` comes on top of `cpu_s_per_million` where the alerts catch up too.
    """
    whole, alone, alerts = (_figures(timings) for timings in (runs.gridwatch, runs.without_windows, runs.alerts))
    return {
        "readings": runs.gridwatch[-1].readings,
        **whole,
        "alerts_readings_per_s": alerts["readings_per_s"],
        "alerts_cpu_s_per_million": alerts["cpu_s_per_million"],
        "without_windows": alone,
        "runs": {
            "gridwatch": [timing.as_json() for timing in runs.gridwatch],
            "without_windows": [timing.as_json() for timing in runs.without_windows],
            "alerts": [timing.as_json() for timing in runs.alerts],
        },
    }


def _figures(timings: list[Timing]) -> dict[str, Any]:
    small, large = timings[0], timings[-1]
    return {
        "readings_per_s": round(large.readings_per_s),
        "cpu_s_per_million": marginal_cpu(small, large),
        "marginal_readings_per_s": marginal_rate(small, large),
    }
