"""Place faults on meters and feeders so that every one can be told from its neighbours."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from generator.draws import generator
from generator.errors import UsageError
from generator.kinds import ALL, DEMO, KINDS, PILOT, Kind, Request
from generator.load import Network
from generator.plan import MINUTE_MS, RunPlan
from generator.polls import reading_near

TAIL_MIN = 2.0
"""No fault ends inside the last minutes of the data."""
HISTORY_POLLS = 8.5
"""No fault starts before its meter had this many polls, so at least six readings with hardly an exception."""
METER_SPACING_MIN = 20.0
"""Between two faults of one meter: the longest memory of a rule (10 min), the off delay (5 min), a margin."""
FEEDER_SPACING_MIN = 5.0
CROWD_LIMIT = 2
"""Like meter faults at once on one feeder; three would rightly count as an event of the feeder."""
MOST_TRIES = 300
FEW = 100
"""Below this number of faults each is tried often; in a crowd one more or less does not matter."""
PER_KIND = 2


@dataclass(frozen=True)
class Fault:
    """One scheduled fault: times in epoch ms, end exclusive; `meter` is -1 for a feeder fault.

    `phase` is empty for all phases. `levels` are equal consecutive parts of the fault; `magnitude`, its
    label, is the worst of them.
    """

    kind: str
    start_ms: int
    end_ms: int
    feeder: int
    meter: int = -1
    phase: str = ""
    levels: tuple[float, ...] = ()

    @property
    def magnitude(self) -> float:
        """The level farthest from 1 (levels per unit of the nominal voltage), else the only one, else 0."""
        return max(self.levels, key=lambda level: abs(level - 1.0)) if self.levels else 0.0


@dataclass(frozen=True)
class Schedule:
    """Faults by start, and one sentence for everything wished for that did not fit."""

    faults: tuple[Fault, ...]
    dropped: tuple[str, ...]


@dataclass
class _Board:
    """What is taken so far, by feeder; and the meters that had a fault."""

    taken: dict[int, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    used: set[int] = field(default_factory=set)

    def add(self, fault: Fault) -> None:
        self.taken[fault.feeder].append(fault)
        self.used.add(fault.meter)


def schedule_faults(plan: RunPlan, network: Network) -> Schedule:
    """Return the faults of a run, the same for the same plan.

    `plan.faults` is none, demo, all, pilot or names of kinds joined by commas. Faults start after the history
    their rule needs (7 min for most) and end 2 min before the data's end; durations stretch with the
    cadence. What does not fit is left out and named. Raises UsageError for an unknown kind.
    """
    requests = _requests(plan, network)
    rng, board = generator(plan.seed, "schedule"), _Board()
    faults: list[Fault] = []
    dropped: dict[str, list[Request]] = defaultdict(list)
    tries = MOST_TRIES if len(requests) < FEW else MOST_TRIES // 6
    for request in requests:
        fault = _place(plan, network, board, request, rng, tries)
        if fault is None:
            dropped[request.kind].append(request)
        else:
            board.add(fault)
            faults.append(fault)
    sentences = [_why_dropped(plan, network, requests) for requests in dropped.values()]
    return Schedule(tuple(sorted(faults, key=lambda f: (f.start_ms, f.kind, f.meter))), tuple(sentences))


def _requests(plan: RunPlan, network: Network) -> list[Request]:
    if plan.faults == "none":
        return []
    if plan.faults == "demo":
        if plan.faults_per_meter_day is not None:
            number, allowed = plan.faults_per_meter_day, "with --faults all or a list of kinds"
            raise UsageError("--faults-per-meter-day", number, allowed, "choose one of both")
        return list(DEMO)
    names = list({"all": ALL, "pilot": PILOT}.get(plan.faults, plan.faults.split(",")))
    unknown = [name for name in names if name not in KINDS]
    if unknown:
        allowed = "none, demo, all, pilot or some of " + ", ".join(KINDS)
        raise UsageError("--faults", ",".join(unknown), allowed, "correct the name")
    if not plan.has_topology:
        names = [name for name in names if KINDS[name].scope == "meter"]
    end = plan.span_s / 60
    wishes = [(_count(plan, network, KINDS[name], names), KINDS[name]) for name in names]
    return [
        Request(kind.name, kind.minutes, (kind.before, end), ())
        for count, kind in sorted(wishes, key=lambda wish: (wish[1].scope, -wish[1].minutes[1]))
        for _ in range(count)
    ]


def _count(plan: RunPlan, network: Network, kind: Kind, names: list[str]) -> int:
    if plan.faults_per_meter_day is None:
        return PER_KIND
    targets = network.feeders if kind.scope == "feeder" else plan.meters
    sharing = sum(KINDS[name].scope == kind.scope for name in names)
    return max(1, round(plan.faults_per_meter_day * targets * plan.span_s / 86_400 / sharing))


def _place(
    plan: RunPlan, network: Network, board: _Board, request: Request, rng: np.random.Generator, tries: int
) -> Fault | None:
    kind = KINDS[request.kind]
    latest_end = plan.data_end_ms - round(TAIL_MIN * MINUTE_MS)
    minute_ms = MINUTE_MS * _stretch(plan, kind)
    for attempt in range(tries):
        draws = rng.random(5)
        free = kind.scope == "feeder" and attempt >= tries // 2
        window = (kind.before, np.inf) if free else request.start
        first = plan.start_ms + max(window[0] * minute_ms, HISTORY_POLLS * plan.cadence_ms)
        shortest, longest = request.minutes[0] * minute_ms, request.minutes[1] * minute_ms
        if first + shortest > latest_end:
            continue
        duration_ms = _between((shortest, min(longest, latest_end - first)), draws[0])
        last = min(plan.start_ms + window[1] * minute_ms, latest_end - duration_ms)
        if last < first:
            continue
        start_ms = int(_between((first, last), draws[1]) // 1000 + 1) * 1000
        whole_ms = round(duration_ms / 1000) * 1000
        fault = _draft(plan, network, board, request, start_ms, whole_ms, draws, attempt < tries // 2)
        if fault is not None and fault.end_ms <= latest_end and _is_free(plan, board, fault):
            return fault
    return None


def _draft(
    plan: RunPlan, network: Network, board: _Board, request: Request,
    start_ms: int, duration_ms: int, draws: np.ndarray[tuple[int], np.dtype[np.float64]], fresh: bool,
) -> Fault | None:  # fmt: skip
    kind = KINDS[request.kind]
    meter_feeders, feeder_feeders = _split_feeders(plan, network.feeders)
    levels = request.levels or (round(_between(kind.magnitude, draws[2]), 4),)
    if kind.scope == "feeder":
        if not len(feeder_feeders):
            return None
        feeder = int(feeder_feeders[int(draws[3] * len(feeder_feeders))])
        phase = "ABC"[int(draws[4] * 12) % 3] if _one_phase(plan, kind, draws[4]) else ""
        return Fault(kind.name, start_ms, start_ms + duration_ms, feeder, -1, phase, levels)
    meter = int(draws[3] * plan.meters)
    feeder = int(network.feeder[meter])
    if feeder not in meter_feeders or (fresh and meter in board.used):
        return None
    if kind.single:
        start_ms = reading_near(plan, meter, start_ms)
        duration_ms = round(min(1000.0, plan.cadence_ms / 2))
    return Fault(kind.name, start_ms, start_ms + duration_ms, feeder, meter, network.phase[meter], levels)


def _one_phase(plan: RunPlan, kind: Kind, draw: float) -> bool:
    return plan.faults != "demo" and kind.name != "feeder_outage" and draw < 0.3


def _split_feeders(plan: RunPlan, feeders: int) -> tuple[range, range]:
    """Feeders open to meter faults and to feeder faults: apart in the demo, all for both in a long run."""
    if plan.faults != "demo":
        return range(feeders), range(feeders)
    reserved = min(3, feeders // 2)
    return range(feeders - reserved), range(feeders - reserved, feeders)


def _is_free(plan: RunPlan, board: _Board, fault: Fault) -> bool:
    others = [other for other in board.taken[fault.feeder] if _near(plan, fault, other)]
    if any(_same_target(fault, other) for other in others):
        return False
    crowd = KINDS[fault.kind].crowd
    alike = sum(bool(crowd) and KINDS[other.kind].crowd == crowd for other in others)
    return alike < CROWD_LIMIT


def _same_target(fault: Fault, other: Fault) -> bool:
    return fault.meter == -1 or other.meter == -1 or fault.meter == other.meter


def _near(plan: RunPlan, fault: Fault, other: Fault) -> bool:
    """True when the two overlap or are closer than the spacing of what they share."""
    same_meter = fault.meter == other.meter and fault.meter >= 0
    far = same_meter or (plan.faults != "demo" and _same_target(fault, other))
    gap_ms = (METER_SPACING_MIN if far else FEEDER_SPACING_MIN) * MINUTE_MS * plan.stretch
    return fault.start_ms < other.end_ms + gap_ms and other.start_ms < fault.end_ms + gap_ms


def _why_dropped(plan: RunPlan, network: Network, requests: list[Request]) -> str:
    kind, count = requests[0].kind, len(requests)
    minutes = min(request.start[0] + request.minutes[0] for request in requests)
    need = (minutes + TAIL_MIN) * _stretch(plan, KINDS[kind])
    have = plan.span_s / 60
    if have < need:
        reason = f"it needs {need:.0f} min of data, the run has {have:.1f}"
    else:
        reason = f"no room beside the others on {plan.meters} meters and {network.feeders} feeders"
    return f"{count} x {kind} left out: {reason}"


def _stretch(plan: RunPlan, kind: Kind) -> float:
    return plan.stretch if kind.stretched else 1.0


def _between(bounds: tuple[float, float], draw: float) -> float:
    return bounds[0] + (bounds[1] - bounds[0]) * float(draw)
