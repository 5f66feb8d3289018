"""Voltage at the head of a feeder: a daily swing, a slow random walk around it and tap steps."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from generator.draws import Floats, Ints, normal, stream_key, uniform, words

TAP_STEP = 0.0125
"""One tap of the transformer, as a part of Un; a change of tap is normal behaviour."""
TAP_SLOT_MS = 2 * 3_600_000
WALK_MEMORY_S = 600.0
KNOT_MS = 10_000
SEGMENT = 360
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Line:
    """How a feeder moves, in V at Un = 230 V: around which middle, half its daily swing (less in the evening than at
    night), and the spread of its random walk, which a restless one has more of in the evening."""

    middle_v: float = 231.0
    swing_v: float = 5.0
    walk_std_v: float = 0.7
    restless: bool = False


SHORT, LONG = Line(), Line(middle_v=233.0, swing_v=5.0, walk_std_v=2.4, restless=True)
_PHI = float(np.exp(-KNOT_MS / 1000 / WALK_MEMORY_S))


def feeder_voltage(seed: int, feeder: Ints, ts: Ints, start_ms: int, feeders: int, line: Line = SHORT) -> Floats:
    """Return the feeder voltage (V, at Un = 230 V) at every event time `ts` (epoch ms, ascending or not).

    `feeder` is the feeder's index below `feeders`; the draws are addressed by the time since `start_ms`,
    the daily swing by the time of day in UTC.
    """
    rank = np.arange(feeders)
    offset = uniform(stream_key(seed, "feeder-offset"), rank) - 0.5
    daily = np.cos(2 * np.pi * ((ts % DAY_MS) / DAY_MS - 0.15))
    since = ts - start_ms
    spread = line.walk_std_v * (1.0 - 0.5 * daily if line.restless else 1.0)
    moving = _taps(seed, feeder, since) + spread * _walk(seed, feeder, since, feeders)
    return line.middle_v + offset[feeder] + line.swing_v * daily + moving


def _taps(seed: int, feeder: Ints, since_ms: Ints) -> Floats:
    """One of two tap positions in each slot of two hours: half of the slots begin with a step of 1.25 %."""
    shift = (uniform(stream_key(seed, "tap-shift"), feeder) * TAP_SLOT_MS).astype(np.int64)
    slot = (since_ms + shift) // TAP_SLOT_MS
    position = (words(stream_key(seed, "tap"), feeder, slot) >> np.uint64(63)).astype(np.float64)
    return (position - 0.5) * TAP_STEP * 230.0


def _walk(seed: int, feeder: Ints, since_ms: Ints, feeders: int) -> Floats:
    """AR(1) of spread 1 on knots of 10 s, straight lines between them."""
    if not len(since_ms):
        return np.empty(0)
    knot, rest = np.divmod(since_ms, KNOT_MS)
    first = int(knot.min()) // SEGMENT
    last = (int(knot.max()) + 1) // SEGMENT
    table = np.hstack([_walk_segment(seed, feeders, segment) for segment in range(first, last + 1)])
    left = knot - first * SEGMENT
    part = rest / KNOT_MS
    walk: Floats = table[feeder, left] * (1 - part) + table[feeder, left + 1] * part
    return walk


@lru_cache(maxsize=8)
def _walk_segment(seed: int, feeders: int, segment: int) -> Floats:
    """AR(1) values (mean 0, std 1) of one hour, run up over the hour before it, so no state is carried.

    What is older than the run-up weighs exp(-6): less than the resolution of a reading.
    """
    knots = np.arange((segment - 1) * SEGMENT, (segment + 1) * SEGMENT)
    shocks = normal(stream_key(seed, "feeder-walk"), np.arange(feeders)[:, None], knots[None, :])
    decay = _PHI ** np.arange(len(knots))
    values: Floats = decay * np.cumsum(shocks / decay, axis=1) * np.sqrt(1 - _PHI**2)
    return values[:, SEGMENT:]
