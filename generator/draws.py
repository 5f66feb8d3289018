"""Random numbers by address: the value depends on (seed, stream, a, b) and on nothing drawn before.

A counter-based hash (the finaliser of SplitMix64, Steele, Lea, Flood 2014) over 64-bit lanes. Any subset
of meters, any slice of time and any order of asking gives the same numbers.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = 0xBF58476D1CE4E5B9
_SECOND = 0x94D049BB133111EB


def stream_key(seed: int, stream: str) -> int:
    """Return the 64-bit key of a named stream of draws; another name or seed gives unrelated draws."""
    word = (seed * _GOLDEN + zlib.crc32(stream.encode()) * _FIRST) & _MASK
    word = ((word ^ (word >> 30)) * _FIRST) & _MASK
    word = ((word ^ (word >> 27)) * _SECOND) & _MASK
    return word ^ (word >> 31)


def generator(seed: int, stream: str) -> np.random.Generator:
    """Return a sequential generator (Philox) for work done once and in a fixed order."""
    return np.random.Generator(np.random.Philox(key=stream_key(seed, stream)))


def words(key: int, a: npt.ArrayLike, b: npt.ArrayLike = 0) -> Words:
    """Return 64 random bits for every pair (a, b), broadcast like numpy; a and b are integers."""
    with np.errstate(over="ignore"):
        lane = _mixed(np.array(a, ndmin=1).astype(np.uint64) * np.uint64(_GOLDEN) + np.uint64(key))
        return _mixed(lane + np.array(b, ndmin=1).astype(np.uint64) * np.uint64(_GOLDEN))


def uniform(key: int, a: npt.ArrayLike, b: npt.ArrayLike = 0) -> Floats:
    """Return draws in [0, 1) for every pair (a, b)."""
    return (words(key, a, b) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def quarters(bits: Words) -> tuple[Floats, Floats, Floats, Floats]:
    """Split each word in four independent draws in [0, 1), each of 16 bits."""
    low = np.uint64(0xFFFF)
    parts = [((bits >> np.uint64(shift)) & low).astype(np.float64) * 2.0**-16 for shift in (0, 16, 32, 48)]
    return parts[0], parts[1], parts[2], parts[3]


def normal(key: int, a: npt.ArrayLike, b: npt.ArrayLike = 0) -> Floats:
    """Return bell-shaped draws, mean 0, standard deviation 1, never beyond 3.47.

    The sum of four uniform draws (Irwin-Hall): bounded on purpose, normal data must stay in its band.
    """
    one, two, three, four = quarters(words(key, a, b))
    return (one + two + three + four - 2.0) * math.sqrt(3.0)


def _mixed(x: Words) -> Words:
    x ^= x >> np.uint64(30)
    x *= np.uint64(_FIRST)
    x ^= x >> np.uint64(27)
    x *= np.uint64(_SECOND)
    x ^= x >> np.uint64(31)
    return x
