"""How fast a full topic is worked off, and what a reading costs: windows and rules alone, and with the archive."""

from __future__ import annotations

from typing import Any

from benchmarks.candidates import Place, run_gridwatch
from benchmarks.load import Load
from benchmarks.measure import Timing, marginal_cpu, marginal_rate
from pipelines.errors import InfrastructureUnavailable

MODES = ("windows", "archive")


def drain(place: Place, loads: list[Load]) -> dict[str, list[Timing]]:
    """Both modes over each load. The broker's CPU is not counted; the engine's start is reported apart."""
    for load in loads:
        place.fill(load)
    return {mode: [run_gridwatch(place, load, mode) for load in loads] for mode in MODES}


def wide_fleet(place: Place, readings: int) -> dict[str, Any]:
    """Windows and rules for ten times as many meters, each read a tenth as often."""
    fleet = Load(readings, meters=100_000, cadence_s=10)
    place.fill(fleet)
    try:
        return {"meters": fleet.meters, **run_gridwatch(place, fleet, "windows").as_json()}
    except InfrastructureUnavailable as error:
        return {"meters": fleet.meters, "error": str(error)}


def summary(runs: dict[str, list[Timing]]) -> dict[str, Any]:
    """The report's fields; CPU figures are marginal, the runs beside them are whole."""
    windows, archive = runs["windows"], runs["archive"]
    return {
        "readings": archive[-1].readings,
        "readings_per_s": round(archive[-1].readings_per_s),
        "cpu_s_per_million": marginal_cpu(archive[0], archive[-1]),
        "windows_readings_per_s": round(windows[-1].readings_per_s),
        "windows_cpu_s_per_million": marginal_cpu(windows[0], windows[-1]),
        "marginal_readings_per_s": marginal_rate(archive[0], archive[-1]),
        "windows_marginal_readings_per_s": marginal_rate(windows[0], windows[-1]),
        "runs": {mode: [timing.as_json() for timing in timings] for mode, timings in runs.items()},
    }
