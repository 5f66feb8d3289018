"""gridwatch as it runs and its peers over the same topics in one run: same windows, same features, same answer.

gridwatch stores every reading too; the peers do windows alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.candidates import Place, run_gridwatch, run_peer, run_plain
from benchmarks.load import Load
from benchmarks.measure import Timing, WrongAnswer, marginal_cpu, marginal_rate
from benchmarks.peers import engines
from pipelines.errors import GridwatchError

Run = Callable[[Load], Timing]
_PEERS = {"flink": engines.flink, "kafka_streams": engines.kafka_streams, "quix": engines.quix}


def side_by_side(
    place: Place, loads: list[Load], quix_loads: list[Load], *, gridwatch: list[Timing] | None = None
) -> dict[str, Any]:
    """Time every engine over each load. `gridwatch`: its runs over the same loads, when there are some already.

    An engine that cannot be installed or does not come to an end is reported with the reason, and the others go on.
    Raises WrongAnswer when one finds something else than the model.
    """
    for load in [*loads, *quix_loads]:
        place.fill(load)
    report: dict[str, Any] = {}
    if gridwatch:
        report["gridwatch"] = figures(gridwatch)
    else:
        report["gridwatch"] = _attempt(place, "gridwatch", loads, lambda: lambda load: run_gridwatch(place, load))
    report["plain"] = _attempt(place, "plain", loads, lambda: lambda load: run_plain(place, load))
    for name in _PEERS:
        report[name] = _attempt(place, name, quix_loads if name == "quix" else loads, _peer(place, name))
    return report | {"ratios": ratios(report)}


def figures(timings: list[Timing]) -> dict[str, Any]:
    """Fields of one engine: throughput of the largest run, marginal CPU between smallest and largest."""
    small, large = timings[0], timings[-1]
    return {
        "readings_per_s": round(large.readings_per_s),
        "cpu_s_per_million": marginal_cpu(small, large),
        "marginal_readings_per_s": marginal_rate(small, large),
        "runs": [timing.as_json() for timing in timings],
    }


def ratios(report: dict[str, Any]) -> dict[str, float]:
    """CPU a reading of gridwatch (archive, windows, incidents) divided by each peer's, both
    marginal; below 1 is cheaper."""
    ours = report["gridwatch"].get("cpu_s_per_million")
    theirs = {name: found.get("cpu_s_per_million") for name, found in report.items() if name != "gridwatch"}
    return {name: round(ours / cost, 2) for name, cost in theirs.items() if ours and cost and cost > 0}


def _peer(place: Place, name: str) -> Callable[[], Run]:
    def prepared() -> Run:
        start = _PEERS[name](place.say)
        return lambda load: run_peer(place, name, load, start)

    return prepared


def _attempt(place: Place, name: str, loads: list[Load], prepare: Callable[[], Run]) -> dict[str, Any]:
    try:
        run = prepare()
        return figures([run(load) for load in loads])
    except WrongAnswer:
        raise
    except GridwatchError as error:
        place.say(f"{name} is left out: {error}")
        return {"error": str(error)}
