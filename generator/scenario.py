"""A run with everything that is known before it: fleet, network, faults; and its readings, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from generator.faults import Block, apply_faults, settle
from generator.fleet import build_fleet, mixed_fleet, without_topology
from generator.labels import label_frame
from generator.load import (
    Network,
    build_network,
    load_current,
    measurement_noise,
    normal_voltage,
    temperature,
)
from generator.plan import RunPlan
from generator.polls import polls_between
from generator.schedule import Fault, schedule_faults


@dataclass(frozen=True)
class Scenario:
    """A planned run: what exists, what will go wrong, and what was wished for but did not fit."""

    plan: RunPlan
    fleet: pd.DataFrame
    network: Network
    faults: tuple[Fault, ...]
    dropped: tuple[str, ...]

    def labels(self) -> pd.DataFrame:
        """Return the labels, see `generator.labels.label_frame`; without a topology they name no feeder."""
        labels = label_frame(self.faults, self.network)
        return labels if self.plan.has_topology else labels.assign(feeder_id="", phase="")


def build_scenario(plan: RunPlan) -> Scenario:
    """Return the scenario of a plan, equal for equal plans. Raises UsageError for unknown faults."""
    fleet = fleet_of(plan)
    network = build_network(plan, fleet)
    schedule = schedule_faults(plan, network)
    faults = tuple(settle(plan, network, fault) for fault in schedule.faults)
    known = fleet if plan.has_topology else without_topology(fleet)
    return Scenario(plan, known, network, faults, schedule.dropped)


def fleet_of(plan: RunPlan) -> pd.DataFrame:
    """Return the fleet of a plan, in the columns of `build_fleet` or of `mixed_fleet`."""
    size = {"meters_per_feeder": plan.meters_per_feeder}
    if plan.fleet == "mixed":
        return mixed_fleet(plan.meters, plan.seed, **size)
    return build_fleet(plan.meters, plan.seed, nominal_voltage_v=plan.nominal_voltage_v, **size)


def plan_run(plan: RunPlan) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (fleet, labels) of a run, known before its first record.

    fleet: columns of `fleet_of`; labels: columns of `label_frame`.
    """
    scenario = build_scenario(plan)
    return scenario.fleet, scenario.labels()


def readings_between(scenario: Scenario, from_ms: int, to_ms: int) -> Block:
    """Return the readings with event time in [from_ms, to_ms), faults applied, rounded as meters report them.

    Resolution: 0.1 V, 0.01 A, 0.1 °C. The same rows come out however the time is cut.
    """
    plan, network = scenario.plan, scenario.network
    to_ms = min(to_ms, plan.closing_end_ms)
    meter, poll, ts = polls_between(plan, np.arange(plan.meters), from_ms, to_ms)
    amps = load_current(plan, network, meter, ts)
    noise_v, noise_part, noise_c = measurement_noise(plan, meter, poll)
    block = Block(
        meter=meter,
        poll=poll,
        ts=ts,
        voltage_v=normal_voltage(plan, network, meter, ts, amps) + noise_v,
        current_a=amps * (1.0 + noise_part),
        temperature_c=temperature(plan, network, meter, ts, amps) + noise_c,
        status=network.talks[meter],
        faulty=np.zeros(len(ts), dtype=np.bool_),
    )
    active = tuple(f for f in scenario.faults if f.start_ms < to_ms and f.end_ms > from_ms)
    block = apply_faults(plan, network, active, block)
    block.voltage_v, block.current_a = np.round(block.voltage_v, 1), np.round(block.current_a, 2)
    block.temperature_c = np.round(block.temperature_c, 1)
    return block


def blocks(scenario: Scenario, block_ms: int) -> Iterator[tuple[int, Block]]:
    """Yield (end of the block in epoch ms, its readings) over the data and the closing part, in order."""
    start, end = scenario.plan.start_ms, scenario.plan.closing_end_ms
    for from_ms in range(start, end, block_ms):
        to_ms = min(from_ms + block_ms, end)
        yield to_ms, readings_between(scenario, from_ms, to_ms)


def block_length_ms(plan: RunPlan, readings: int) -> int:
    """Return the event time (ms, at least one second) in which about `readings` readings arise."""
    return max(1000, round(readings * plan.cadence_ms / plan.meters))
