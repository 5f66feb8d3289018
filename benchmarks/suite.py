"""Which benchmark runs what, in which sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from benchmarks.candidates import Place
from benchmarks.drain import drain, summary
from benchmarks.idle import MEASURED_S, WARM_UP_S, idle
from benchmarks.live import Traffic
from benchmarks.load import SEED, Load
from benchmarks.measure import Timing
from benchmarks.recovery import recovery
from benchmarks.scale import FLEETS, LIMIT_S, Fleet, scale
from benchmarks.side_by_side import side_by_side
from benchmarks.smoke import smoke
from benchmarks.soak import soak
from benchmarks.state import state
from benchmarks.steady import steady
from pipelines.errors import GridwatchError

NAMES = ("smoke", "drain", "peers", "steady", "idle", "state", "recovery", "soak", "scale", "all")
APART = ("smoke", "soak", "scale")
"""What `all` leaves out: it says nothing about speed, or takes an hour of its own."""


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""

    drain: tuple[int, int]
    quix: tuple[int, int]
    steady_s: int
    storm_s: int
    fleets: tuple[int, ...]
    recovery_s: int
    soak_s: int
    idle_s: int = MEASURED_S
    idle_warm_s: int = WARM_UP_S
    soak_rate: int = 2_000
    """Readings a second in the soak, of as many meters."""
    rate: int = 10_000
    seed: int = SEED
    scale: tuple[Fleet, ...] = tuple(map(Fleet, FLEETS))
    scale_s: float = LIMIT_S
    driver_memory: str | None = None
    """Heap of the pipeline in `scale`; None as the settings have it."""

    @property
    def loads(self) -> list[Load]:
        """Two sizes of the same fleet; the slope between them is what a reading costs."""
        return [Load(size, seed=self.seed) for size in self.drain]

    @property
    def quix_loads(self) -> list[Load]:
        """Smaller ones, of fewer meters so that they last as long in event time."""
        return [Load(size, meters=2_500, seed=self.seed) for size in self.quix]


FULL = Sizes((3_000_000, 10_000_000), (500_000, 1_500_000), 600, 60, (10_000, 100_000, 1_000_000), 150, 3600)
QUICK = Sizes(
    (1_500_000, 3_000_000), (300_000, 600_000), 90, 0, (10_000, 100_000), 30, 1200, idle_s=100, idle_warm_s=200
)


def run(name: str, place: Place, sizes: Sizes, report: dict[str, Any], broker: int) -> None:
    """Run a benchmark (or all of them) and put its figures into `report`, each as soon as it is there.

    `broker`: process id of the broker. A part that fails is reported with its reason and the next one begins; the
    first failure is raised at the end. What soak and scale have found until they failed or were interrupted is in the
    report.
    """
    parts = _parts(place, sizes, broker, report)
    failures: list[GridwatchError] = []
    for part in [part for part in parts if part not in APART] if name == "all" else [name]:
        place.say(f"{part}:")
        try:
            report[part] = parts[part]()
        except GridwatchError as error:
            place.say(f"{part} failed: {error}")
            report[part] = {**report.get(part, {}), "error": str(error)}
            failures.append(error)
    if failures:
        raise failures[0]


def _parts(place: Place, sizes: Sizes, broker: int, report: dict[str, Any]) -> dict[str, Callable[[], Any]]:
    drained_runs: list[list[Timing]] = []
    long = Traffic(sizes.soak_rate, sizes.soak_s, meters=sizes.soak_rate, seed=sizes.seed)
    traffic = Traffic(sizes.rate, sizes.steady_s + sizes.storm_s, sizes.storm_s, seed=sizes.seed)

    def drained() -> dict[str, Any]:
        runs = drain(place, sizes.loads)
        drained_runs.append(runs.gridwatch)
        return summary(runs)

    def peers() -> dict[str, Any]:
        ours = drained_runs[0] if drained_runs else None
        return side_by_side(place, sizes.loads, sizes.quix_loads, gridwatch=ours)

    def scaled() -> dict[str, Any]:
        return scale(
            place, sizes.scale, broker, report.setdefault("scale", {}), seed=sizes.seed, limit_s=sizes.scale_s,
            driver_memory=sizes.driver_memory,
        )  # fmt: skip

    return {
        "smoke": lambda: smoke(place),
        "drain": drained,
        "peers": peers,
        "steady": lambda: steady(place, traffic, broker),
        "idle": lambda: idle(place, broker, warm_s=sizes.idle_warm_s, seconds=sizes.idle_s, seed=sizes.seed),
        "state": lambda: state(place, sizes.fleets, broker),
        "recovery": lambda: recovery(place, rate=sizes.rate, warm_s=sizes.recovery_s),
        "soak": lambda: soak(place, long, broker, report.setdefault("soak", {})),
        "scale": scaled,
    }
