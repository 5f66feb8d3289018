"""Change readings as the scheduled faults say, inside their intervals only.

Magnitudes by kind: sag, swell, spike, feeder_sag, feeder_swell: voltage per unit of nominal; step, drift,
noisy: size (for noisy: standard deviation) per unit of nominal; over_temperature: °C;
temperature_rise: °C risen; overcurrent: part of the rated current; unit_x10, unit_days: the factor; glitch:
the absurd value in V; others 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from generator.draws import Bools, Floats, Ints, normal, stream_key, uniform
from generator.load import TRANSFORMER_C, Network, load_current, normal_voltage
from generator.plan import RunPlan
from generator.schedule import Fault

STATUSES: tuple[str | None, ...] = (None, "OK", "FAILURE", "RELAY_FAILURE", "Metering failure 0x2F")
FAILURES = 3
SILENT = ("silent", "gap")
GLITCHES_PU = (10.0, -1.0, 28.5, -4.35, 4.0)


@dataclass
class Block:
    """Readings as arrays of one length, by event time: meter index, poll number, ts (epoch ms), V, A, °C.

    `status` indexes STATUSES; `faulty` is true where a fault applies.
    """

    meter: Ints
    poll: Ints
    ts: Ints
    voltage_v: Floats
    current_a: Floats
    temperature_c: Floats
    status: Ints
    faulty: Bools

    def __len__(self) -> int:
        return len(self.ts)

    def where(self, keep: Bools) -> Block:
        """Return the rows where `keep` is true."""
        return Block(*(getattr(self, name)[keep] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class _Case:
    """One fault on its rows: everything an effect needs to compute the new values."""

    plan: RunPlan
    network: Network
    fault: Fault
    meter: Ints
    poll: Ints
    ts: Ints
    voltage_v: Floats
    current_a: Floats
    temperature_c: Floats

    @property
    def nominal(self) -> Floats:
        return self.network.nominal_v[self.meter]

    @property
    def part(self) -> Floats:
        """How much of the fault has passed, 0 to 1."""
        return (self.ts - self.fault.start_ms) / (self.fault.end_ms - self.fault.start_ms)

    @property
    def level(self) -> Floats:
        """The level in force at each row: equal consecutive parts of the fault."""
        levels = np.array(self.fault.levels)
        return levels[np.minimum((self.part * len(levels)).astype(np.int64), len(levels) - 1)]

    def draw(self) -> Floats:
        return uniform(stream_key(self.plan.seed, f"fault-{self.fault.kind}"), self.meter, self.poll)


def apply_faults(plan: RunPlan, network: Network, faults: tuple[Fault, ...], block: Block) -> Block:
    """Return the block with every fault that touches it applied and the rows of silent meters removed."""
    keep = np.ones(len(block), dtype=np.bool_)
    for fault in faults:
        rows = _rows(network, fault, block)
        if len(rows):
            block.faulty[rows] = True
            _apply(plan, network, fault, block, rows)
            if fault.kind in SILENT:
                keep[rows] = False
    return block if keep.all() else block.where(keep)


def settle(plan: RunPlan, network: Network, fault: Fault) -> Fault:
    """Return the fault with the sign or the value that depends on what its meter shows at the start.

    A step or drift moves towards the middle of the band, so that it stays inside; a glitch takes its value, and a
    transformer, which is warmer, a higher temperature.
    """
    nominal_v = float(network.nominal_v[fault.meter])
    if fault.kind == "glitch":
        value = GLITCHES_PU[min(int(fault.magnitude * len(GLITCHES_PU)), len(GLITCHES_PU) - 1)]
        return replace(fault, levels=(round(value * nominal_v, 1),))
    if fault.kind == "over_temperature" and network.is_transformer[fault.meter]:
        return replace(fault, levels=tuple(level + TRANSFORMER_C for level in fault.levels))
    if fault.kind not in ("step", "drift"):
        return fault
    down = _normal_at_start(plan, network, fault) > nominal_v
    return replace(fault, levels=tuple(-level if down else level for level in fault.levels))


def _rows(network: Network, fault: Fault, block: Block) -> Ints:
    first, last = np.searchsorted(block.ts, (fault.start_ms, fault.end_ms))
    meter = block.meter[first:last]
    if fault.meter >= 0:
        inside = meter == fault.meter
    else:
        inside = network.feeder[meter] == fault.feeder
        if fault.phase:
            inside &= np.array(network.phase)[meter] == fault.phase
    rows: Ints = first + np.flatnonzero(inside)
    return rows


def _apply(plan: RunPlan, network: Network, fault: Fault, block: Block, rows: Ints) -> None:
    case = _Case(
        plan, network, fault, block.meter[rows], block.poll[rows], block.ts[rows],
        block.voltage_v[rows], block.current_a[rows], block.temperature_c[rows],
    )  # fmt: skip
    if fault.kind in VOLTAGE:
        block.voltage_v[rows] = VOLTAGE[fault.kind](case)
    if fault.kind in CURRENT:
        block.current_a[rows] = CURRENT[fault.kind](case)
    if fault.kind in TEMPERATURE:
        block.temperature_c[rows] = TEMPERATURE[fault.kind](case)
    if fault.kind == "failure_status":
        block.status[rows] = len(STATUSES) - FAILURES + (fault.start_ms // 1000) % FAILURES


def _normal_at_start(plan: RunPlan, network: Network, fault: Fault) -> float:
    meter, ts = np.array([fault.meter]), np.array([fault.start_ms])
    amps = load_current(plan, network, meter, ts)
    return float(normal_voltage(plan, network, meter, ts, amps)[0])


def _to_level(case: _Case) -> Floats:
    """The level, with a third of the meter's usual movement around nominal."""
    return case.level * case.nominal + 0.3 * (case.voltage_v - case.nominal)


def _dead(case: _Case) -> Floats:
    return 0.008 * case.nominal * case.draw()


def _shifted(case: _Case) -> Floats:
    return case.voltage_v + case.level * case.nominal


def _drifting(case: _Case) -> Floats:
    return case.voltage_v + case.level * case.nominal * np.minimum(1.0, 1.5 * case.part)


def _stuck(case: _Case) -> Floats:
    return np.full(len(case.ts), _normal_at_start(case.plan, case.network, case.fault))


def _noisy(case: _Case) -> Floats:
    key = stream_key(case.plan.seed, "fault-noisy")
    return case.voltage_v + case.level * case.nominal * normal(key, case.meter, case.poll)


def _exactly(case: _Case) -> Floats:
    return case.level


def _spiked(case: _Case) -> Floats:
    return case.level * case.nominal


def _times(case: _Case) -> Floats:
    return case.voltage_v * case.level


def _hot(case: _Case) -> Floats:
    return case.level + 2.0 * (case.draw() - 0.5)


def _warming(case: _Case) -> Floats:
    return case.temperature_c + case.level * np.minimum(1.0, 1.5 * case.part)


def _overloaded(case: _Case) -> Floats:
    return case.network.rated_current_a[case.meter] * (case.level + 0.02 * case.draw())


def _no_current(case: _Case) -> Floats:
    return np.zeros(len(case.ts))


Effect = Callable[[_Case], Floats]
VOLTAGE: dict[str, Effect] = {
    "sag": _to_level, "swell": _to_level, "feeder_sag": _to_level, "feeder_swell": _to_level,
    "interruption": _dead, "feeder_outage": _dead, "spike": _spiked, "glitch": _exactly,
    "unit_x10": _times, "unit_days": _times, "step": _shifted, "drift": _drifting, "stuck": _stuck, "noisy": _noisy,
}  # fmt: skip
CURRENT: dict[str, Effect] = {
    "overcurrent": _overloaded, "interruption": _no_current, "feeder_outage": _no_current,
}  # fmt: skip
TEMPERATURE: dict[str, Effect] = {"over_temperature": _hot, "temperature_rise": _warming}
