"""When a meter is read: a cadence with jitter, skipped polls and short gaps."""

from __future__ import annotations

import numpy as np

from generator.draws import Bools, Ints, stream_key, uniform
from generator.plan import RunPlan

JITTER = 0.08
"""Largest delay of a poll, as a part of the cadence."""
SKIPPED_ONCE = 0.09
SKIPPED_TWICE = 0.009
"""Chances, per three polls, that one is missing or two in a row: together 3.6 % of all polls."""


def poll_times(plan: RunPlan, meter: Ints, poll: Ints) -> Ints:
    """Return the event time (epoch ms) of poll number `poll` (0 = first) of each meter index.

    Meters are spread evenly over the cadence; two polls of a meter are never closer than 0.92 cadences.
    """
    phase = uniform(stream_key(plan.seed, "poll-phase"), meter)
    jitter = uniform(stream_key(plan.seed, "poll-jitter"), meter, poll) * JITTER
    offset = np.floor((phase + poll + jitter) * plan.cadence_ms)
    return plan.start_ms + offset.astype(np.int64)


def delivered(plan: RunPlan, meter: Ints, poll: Ints) -> Bools:
    """Return which polls succeed: 96.4 % of them, never more than two missing in a row."""
    offset = (uniform(stream_key(plan.seed, "poll-triple"), meter) * 3).astype(np.int64)
    triple, place = np.divmod(poll + offset, 3)
    draw = uniform(stream_key(plan.seed, "poll-skipped"), meter, triple)
    first = (draw < SKIPPED_TWICE + SKIPPED_ONCE / 2) & (place == 1)
    second = (draw < SKIPPED_TWICE) | (draw >= SKIPPED_TWICE + SKIPPED_ONCE / 2)
    second &= (draw < SKIPPED_TWICE + SKIPPED_ONCE) & (place == 2)
    kept: Bools = ~(first | second)
    return kept


def polls_between(plan: RunPlan, meters: Ints, from_ms: int, to_ms: int) -> tuple[Ints, Ints, Ints]:
    """Return (meter, poll, event time ms) of the readings in [from_ms, to_ms), by time, then meter."""
    first = max(0, int((from_ms - plan.start_ms) // plan.cadence_ms) - 2)
    last = int((to_ms - plan.start_ms) // plan.cadence_ms) + 1
    polls = np.arange(first, last)
    meter, poll = np.repeat(meters, len(polls)), np.tile(polls, len(meters))
    ts = poll_times(plan, meter, poll)
    inside = (ts >= from_ms) & (ts < to_ms)
    meter, poll, ts = meter[inside], poll[inside], ts[inside]
    kept = delivered(plan, meter, poll)
    meter, poll, ts = meter[kept], poll[kept], ts[kept]
    order = np.lexsort((meter, ts))
    return meter[order], poll[order], ts[order]


def reading_near(plan: RunPlan, meter: int, wanted_ms: int) -> int:
    """Return the event time (ms) of the first reading of the meter at or after `wanted_ms`."""
    times = polls_between(plan, np.array([meter]), wanted_ms, wanted_ms + int(5 * plan.cadence_ms))[2]
    return int(times[0])
