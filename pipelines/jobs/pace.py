"""How long a batch may last: quick under load, slow when little comes, because a batch costs the same either way."""

from __future__ import annotations

ENOUGH_READINGS = 5_000
"""Readings that are worth a batch of their own: a batch costs half a CPU second, whatever it holds."""


def interval_s(readings_per_s: float, *, least_s: float, most_s: float) -> float:
    """Seconds from the begin of a batch to the begin of the next one: as many as it takes for ENOUGH_READINGS to come.

    >>> [interval_s(rate, least_s=3.0, most_s=10.0) for rate in (0.0, 167.0, 1000.0, 10_000.0)]
    [10.0, 10.0, 5.0, 3.0]
    """
    wanted_s = ENOUGH_READINGS / readings_per_s if readings_per_s else most_s
    return max(least_s, min(wanted_s, most_s))
