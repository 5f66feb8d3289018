"""What every engine must find in a load: computed with numpy from the definition of the data, without any engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import FEEDER_METERS, SLIDE_S, WINDOW_S, Load

MIN_HISTORY, PEERS = 8, 3
"""`detection.min_history` and `detection.peers`: the product's defaults, stated here a second time on purpose."""
_PANES = WINDOW_S // SLIDE_S
_MINUTE_MS = SLIDE_S * 1000
_CHUNK = 1_000_000

Flags = NDArray[np.bool_]
Words = NDArray[np.uint64]
Key = tuple[int, int]
"""Number of a meter and window end in epoch ms."""


@dataclass(frozen=True)
class Flagged:
    """The baseline part of a flagged window: readings and mean voltage (V)."""

    base_n: int
    base_mean_v: float


@dataclass(frozen=True)
class Answer:
    """What is in a load."""

    windows: int
    """Meter windows that hold readings."""
    deviating: Mapping[Key, Flagged]
    """Windows whose last minute leaves the baseline before it: what the peers send."""
    alone: Mapping[Key, Flagged]
    """Those of them that stay in the band and that fewer than three meters of the feeder share: what gridwatch calls
    voltage_deviation."""
    readings_low: int
    """Readings below the band: one anomaly each, undervoltage."""
    readings_high: int
    """Readings above the band: two anomalies each, overvoltage and voltage_spike."""


def answer(load: Load) -> Answer:
    """The answer of a load. Between the voltages of normal, shifted and out-of-band minutes lie 10 V and more, so no
    limit of any rule is near a value and rounding decides nothing."""
    first = load.start_ms // _MINUTE_MS
    minutes = Minutes.of(load.seed, load.meters, first, load.minutes)
    counts = np.broadcast_to(_readings_a_minute(load), minutes.words.shape)
    deviates, alone = deviations(minutes, counts)
    details = {key: _flagged(load, minutes, key) for key in keys(load.start_ms, deviates)}
    per_meter = np.where(minutes.out, counts, 0)
    return Answer(
        windows=load.meters * load.window_ends,
        deviating=details,
        alone={key: details[key] for key in keys(load.start_ms, alone)},
        readings_low=int(per_meter[minutes.low].sum()),
        readings_high=int(per_meter[~minutes.low].sum()),
    )


@dataclass(frozen=True)
class PacedAnswer:
    """What is in the traffic of the open-loop producer up to its storm."""

    alone: frozenset[Key]
    readings_low: int
    readings_high: int


def paced_answer(
    start_ms: int, readings: int, *, cadence_s: int, meters: int, seed: int, storm_from: int, rarer: int = 1
) -> PacedAnswer:
    """The answer of paced traffic: window anomalies of the ends before the storm, readings out of band of the whole."""
    first_minute, cadence_ms = start_ms // _MINUTE_MS, 1000 * cadence_s
    count = (start_ms + (readings - 1) * cadence_ms // meters) // _MINUTE_MS - first_minute + 1
    minutes = Minutes.of(seed, meters, first_minute, count, rarer)
    counts, low_high = np.zeros((meters, count), np.int64), [0, 0]
    for begin in range(0, readings, _CHUNK):
        number = np.arange(begin, min(begin + _CHUNK, readings))
        meter, minute = number % meters, (start_ms + number * cadence_ms // meters) // _MINUTE_MS - first_minute
        np.add.at(counts, (meter, minute), 1)
        out, low = minutes.out[meter, minute] | (number >= storm_from), minutes.low[meter, minute]
        low_high[0] += int((out & low).sum())
        low_high[1] += int((out & ~low).sum())
    _, alone = deviations(minutes, counts)
    calm_until = (start_ms + storm_from * cadence_ms // meters) // _MINUTE_MS * _MINUTE_MS
    ends = keys(first_minute * _MINUTE_MS, alone)
    return PacedAnswer(frozenset(key for key in ends if key[1] <= calm_until), low_high[0], low_high[1])


@dataclass(frozen=True)
class Minutes:
    """What every meter does in every minute of a load; arrays of meters x minutes."""

    words: Words
    """The random words from which the readings follow."""
    out: Flags
    """Out of band: one minute of two hundred."""
    shifted: Flags
    """In the band, but far off the minutes before: one of two hundred as well. A meter is at most once in five
    minutes, so that the baseline of a shifted minute is a clean one."""
    low: Flags
    """Out or shifted to the low side; else to the high one."""

    @classmethod
    def of(cls, seed: int, meters: int, first_minute: int, count: int, rarer: int = 1) -> Self:
        """The first `count` minutes of a load that begins in `first_minute` (minutes since the epoch); odd ones are so
        many times rarer."""
        words = minute_words(seed, meters, first_minute, count)
        dice = words >> np.uint64(33)
        number = np.arange(count)
        turn = (np.arange(meters)[:, None] + first_minute + number) % _PANES == 0
        shifted = (dice % np.uint64(40 * rarer) == 1) & turn & (number >= _PANES - 1)
        return cls(words, dice % np.uint64(200 * rarer) == 0, shifted, words & np.uint64(1) == 0)

    def tenths(self, meter: int, minute: int, times_ms: Words) -> Words:
        """Voltages of a meter's readings at `times_ms` of one of its minutes, in tenths of a volt."""
        dice = mix(self.words[meter, minute] + times_ms) >> np.uint64(33)
        low = self.low[meter, minute]
        if self.out[meter, minute]:
            return np.uint64(1400 if low else 2800) + dice % np.uint64(400)
        if self.shifted[meter, minute]:
            return np.uint64(2110 if low else 2430) + dice % np.uint64(60)
        return np.uint64(2260) + dice % np.uint64(81)


def deviations(minutes: Minutes, counts: NDArray[np.int64]) -> tuple[Flags, Flags]:
    """By meter and minute: whether the window that ends with the minute deviates, and whether it does so in the band
    and alone.

    `counts`: readings of each meter and minute. A baseline with a shifted minute in it lies off its normal minutes:
    these count among the others that move alike, and deviate themselves when the baseline is all shifted.
    """
    base_n = _base_counts(np.where(minutes.out, 0, counts))
    base_shifted = _base_counts(np.where(minutes.shifted, counts, 0))
    judged = (counts > 0) & (base_n >= MIN_HISTORY)
    leans = judged & ~minutes.out & ~minutes.shifted & (base_shifted > 0)
    deviates = (judged & (minutes.out | minutes.shifted)) | (leans & (base_shifted == base_n))
    low = np.where(leans, _base_counts(np.where(minutes.shifted & minutes.low, 1, 0)) == 0, minutes.low)
    moves = deviates | leans
    alike = np.where(low, _others_alike(moves & low), _others_alike(moves & ~low))
    return deviates, deviates & ~minutes.out & (alike < PEERS)


def minute_words(seed: int, meters: int, first_minute: int, minutes: int) -> Words:
    """The random word of every meter and minute since the epoch, from which its readings follow."""
    meter = np.arange(meters, dtype=np.uint64)[:, None]
    minute = np.arange(first_minute, first_minute + minutes, dtype=np.uint64)
    with np.errstate(over="ignore"):
        start = np.array([seed], np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        return mix(start + meter * np.uint64(0xD1B54A32D192ED03) + minute)


def mix(z: Words) -> Words:
    """The finaliser of splitmix64."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _readings_a_minute(load: Load) -> NDArray[np.int64]:
    full = SLIDE_S // load.cadence_s
    counts = np.full(load.minutes, full)
    counts[-1] = load.ticks - full * (load.minutes - 1)
    return counts


def _base_counts(in_band: NDArray[np.int64]) -> NDArray[np.int64]:
    """In-band readings of the four minutes before each minute."""
    padded = np.pad(in_band, ((0, 0), (_PANES - 1, 0)))
    total = np.zeros_like(in_band)
    for back in range(_PANES - 1):
        total += padded[:, back : back + in_band.shape[1]]
    return total


def _others_alike(deviates: Flags) -> NDArray[np.int64]:
    """Other deviating meters of the same feeder, by meter and minute."""
    meters, minutes = deviates.shape
    padded = np.pad(deviates, ((0, -meters % FEEDER_METERS), (0, 0)))
    a_feeder = padded.reshape(-1, FEEDER_METERS, minutes).sum(axis=1)
    return np.repeat(a_feeder, FEEDER_METERS, axis=0)[:meters] - deviates


def keys(start_ms: int, flags: Flags) -> list[Key]:
    """Meter and window end of every flag; `start_ms`: begin of the first minute."""
    meters, minutes = np.nonzero(flags)
    ends = start_ms + (minutes + 1) * _MINUTE_MS
    return list(zip(meters.tolist(), ends.tolist(), strict=True))


def _flagged(load: Load, minutes: Minutes, key: Key) -> Flagged:
    meter, end_ms = key
    tested = (end_ms - load.start_ms) // _MINUTE_MS - 1
    cadence_ms, tenths, count = load.cadence_s * 1000, 0, 0
    for number in range(max(0, tested - _PANES + 1), tested):
        if minutes.out[meter, number]:
            continue
        first = load.start_ms + number * _MINUTE_MS + meter * cadence_ms // load.meters
        times = np.arange(first, first - first % _MINUTE_MS + _MINUTE_MS, cadence_ms, dtype=np.uint64)
        tenths += int(minutes.tenths(meter, number, times).sum())
        count += len(times)
    return Flagged(count, tenths / 10 / count)
