"""What a run is: sizes, clocks and shares, all known before the first record."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from generator.errors import UsageError

MINUTE_MS = 60_000
GRIDS = ("strong", "mixed", "weak", "rural")
FLEETS = ("uniform", "mixed")
EARLIEST_MS = 631_152_000_000
HIDDEN_BEHIND_S = 120.0
"""The data's clock ends this long before now when the run is faster or slower than real time."""


@dataclass(frozen=True)
class RunPlan:
    """One run. Equal plans give equal bytes (but for records stamped with the wall clock on purpose).

    Times are epoch ms of the data's clock: data lies in [start_ms, data_end_ms), closing readings without
    faults in [data_end_ms, closing_end_ms). Shares are parts of all readings.
    """

    start_ms: int
    data_end_ms: int
    meters: int = 500
    cadence_s: float = 10.0
    rate: float = 50.0
    seconds: float = 60.0
    seed: int = 7
    faults: str = "demo"
    faults_per_meter_day: float | None = None
    watermark_s: float = 10.0
    late_by_s: float = 300.0
    late_share: float = 0.003
    duplicate_share: float = 0.005
    out_of_order_share: float = 0.01
    malformed_share: float = 0.003
    meters_per_feeder: int = 50
    grid: str = "mixed"
    nominal_voltage_v: float = 230.0
    fleet: str = "uniform"
    has_topology: bool = True

    @property
    def speed(self) -> float:
        """Seconds of the data's clock per second of the wall clock."""
        return self.rate * self.cadence_s / self.meters

    @property
    def cadence_ms(self) -> float:
        """Milliseconds between two polls of a meter."""
        return self.cadence_s * 1000.0

    @property
    def closing_end_ms(self) -> int:
        """End of the closing readings: watermark + 2 cadences after the data's end."""
        return self.data_end_ms + math.ceil(closing_span_s(self.watermark_s, self.cadence_s) * 1000)

    @property
    def span_s(self) -> float:
        """Length of the data in seconds of its own clock, without the closing readings."""
        return (self.data_end_ms - self.start_ms) / 1000.0

    @property
    def stretch(self) -> float:
        """Factor on fault durations: 1 up to a cadence of 20 s, then as the windows of the rules grow."""
        return max(1.0, self.cadence_s / 20.0)

    def wall_s(self, event_ms: float) -> float:
        """Seconds after the start of the run at which the data's clock shows `event_ms`."""
        return (event_ms - self.start_ms) / 1000.0 / self.speed


def closing_span_s(watermark_s: float, cadence_s: float) -> float:
    """Return the length of the closing part (s): enough to push every window past the watermark."""
    return watermark_s + 2 * cadence_s


def make_plan(
    now_ms: int, *, paced: bool, start_ms: int | None = None, end_ms: int | None = None, **options: Any
) -> RunPlan:
    """Return the checked plan of a run that starts at wall clock `now_ms`.

    `options` are fields of RunPlan; what is absent takes its default, `rate` that of real time
    (meters / cadence_s). `paced` says that records go out by the wall clock (Kafka), so no event time may
    be ahead of it; a run to files is written at once and ends 2 min before now unless told otherwise.
    Raises UsageError for an illegal or contradictory option.
    """
    meters, cadence_s = options.get("meters", 500), options.get("cadence_s", 10.0)
    _check("--meters", meters, "1 to 1000000", "give a whole number in it", 1 <= meters <= 1_000_000)
    _check("--cadence", cadence_s, "1 to 86400 s", "give seconds in it", 1 <= cadence_s <= 86_400)
    options.setdefault("rate", meters / cadence_s)
    _check("--rate", options["rate"], "above 0", "give readings per second", options["rate"] > 0)
    speed = options["rate"] * cadence_s / meters
    if start_ms is not None and end_ms is not None:
        options["seconds"] = _seconds_between(start_ms, end_ms, speed, options.get("seconds"))
    seconds = options.setdefault("seconds", 60.0)
    _check("--seconds", seconds, "above 0", "give a duration in wall seconds", seconds > 0)
    span_ms = max(1, round(seconds * speed * 1000))
    if start_ms is None:
        closing_s = closing_span_s(options.get("watermark_s", 10.0), cadence_s)
        if end_ms is None:
            end_ms = _latest_end(now_ms, span_ms, seconds, speed, closing_s, paced)
        start_ms = end_ms - span_ms
    watermark_s = options.get("watermark_s", 10.0)
    options.setdefault("late_by_s", max(300.0, 3 * watermark_s))
    plan = RunPlan(start_ms=start_ms, data_end_ms=start_ms + span_ms, **options)
    check_plan(plan)
    return plan


def check_plan(plan: RunPlan) -> None:
    """Raise UsageError unless every field of the plan is legal and the fields agree."""
    for name in ("late_share", "duplicate_share", "out_of_order_share", "malformed_share"):
        share = getattr(plan, name)
        option = "--" + name.replace("_", "-")
        _check(option, share, "0 to 0.2", "give a part of all readings", 0 <= share <= 0.2)
    _check("--watermark", plan.watermark_s, "above 0", "give seconds of event time", plan.watermark_s > 0)
    _check(
        "--late-by", plan.late_by_s, f"more than the watermark of {plan.watermark_s:g} s",
        "a late record must come after the watermark", plan.late_by_s > plan.watermark_s,
    )  # fmt: skip
    _check("--seed", plan.seed, "0 to 2^63-1", "give a whole number in it", 0 <= plan.seed < 2**63)
    _check("--grid", plan.grid, ", ".join(GRIDS), "choose one of them", plan.grid in GRIDS)
    per_feeder = plan.meters_per_feeder
    _check("--meters-per-feeder", per_feeder, "1 or more", "give a whole number", per_feeder >= 1)
    nominal = plan.nominal_voltage_v
    _check("--nominal-voltage", nominal, "50 to 1000 V", "give volts in it", 50 <= nominal <= 1000)
    _check("--fleet", plan.fleet, ", ".join(FLEETS), "choose one of them", plan.fleet in FLEETS)
    _check(
        "--nominal-voltage", f"{nominal:g} V with --fleet mixed", "230 V there", "leave one of both out",
        plan.fleet == "uniform" or nominal == RunPlan.nominal_voltage_v,
    )  # fmt: skip
    daily = plan.faults_per_meter_day
    _check("--faults-per-meter-day", daily, "above 0 to 24", "leave it out", daily is None or 0 < daily <= 24)
    late_enough = plan.start_ms > EARLIEST_MS
    _check("the data's start", plan.start_ms, "1990 or later", "shorten the run or slow it down", late_enough)


def check_clock(plan: RunPlan, now_ms: int) -> None:
    """Raise UsageError when a run paced from `now_ms` would send event times ahead of the wall clock."""
    ahead = plan.start_ms - now_ms
    ahead_at_end = plan.closing_end_ms - (now_ms + plan.wall_s(plan.closing_end_ms) * 1000)
    worst = max(ahead, ahead_at_end)
    _check(
        "the data's clock", f"{worst / 1000:.0f} s ahead of the wall clock", "never ahead",
        "give an earlier --start or --end, or leave both out", worst <= 1,
    )  # fmt: skip


def plan_to_json(plan: RunPlan) -> str:
    """Return the plan as JSON: the times a reader wants on top, every field of the plan under `options`."""
    body = {
        "data_start": plan.start_ms,
        "data_end": plan.data_end_ms,
        "closing_end": plan.closing_end_ms,
        "watermark_s": plan.watermark_s,
        "speed": plan.speed,
        "options": asdict(plan),
    }
    return json.dumps(body, indent=2) + "\n"


def read_plan(path: str | Path) -> RunPlan:
    """Return the plan written by `plan_to_json`. Raises UsageError when the file is not one."""
    action = "write one with --plan-only"
    try:
        options = json.loads(Path(path).read_text(encoding="utf-8"))["options"]
        unknown = set(options) - {field.name for field in fields(RunPlan)}
        _check("--plan", sorted(unknown), "fields of this version", action, not unknown)
        plan = RunPlan(**options)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError("--plan", f"{path} ({error})", "a plan.json", action) from error
    check_plan(plan)
    return plan


def _latest_end(now_ms: int, span_ms: int, seconds: float, speed: float, closing_s: float, paced: bool) -> int:
    if not paced:
        return _floor_minute(now_ms - HIDDEN_BEHIND_S * 1000)
    if math.isclose(speed, 1.0):
        return now_ms + span_ms
    behind_s = max(HIDDEN_BEHIND_S, closing_s + 10)
    return _floor_minute(min(now_ms + (seconds - behind_s) * 1000, now_ms + span_ms))


def _seconds_between(start_ms: int, end_ms: int, speed: float, seconds: float | None) -> float:
    _check("--end", end_ms, f"after --start {start_ms}", "swap or correct them", end_ms > start_ms)
    derived = (end_ms - start_ms) / 1000 / speed
    agree = seconds is None or math.isclose(seconds, derived, abs_tol=0.001)
    _check("--seconds", seconds, f"{derived:g} for this --start, --end and speed", "leave it out", agree)
    return derived


def _floor_minute(ms: float) -> int:
    return int(ms // MINUTE_MS) * MINUTE_MS


def _check(what: str, value: object, allowed: str, action: str, legal: bool) -> None:
    if not legal:
        raise UsageError(what, value, allowed, action)
