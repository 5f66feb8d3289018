"""What makes a reading the same reading, as a number, and which readings were sent before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]

_MINUTE_MS = 60_000
_PHASE = "\x1f"
"""Between meter and phase: no meter id may have it (conf/contracts)."""
_MOST_METERS = 4_000_000
"""Garbage ids must not fill a worker's memory; beyond so many all hashes are computed again."""


class MeterHashes(dict[str, int]):
    """Hash of a meter's id by id, computed once; the same in every process and version."""

    def __missing__(self, meter_id: str) -> int:
        if len(self) >= _MOST_METERS:
            self.clear()
        digest = blake2b(meter_id.encode(), digest_size=8).digest()
        return self.setdefault(meter_id, int.from_bytes(digest, "little", signed=True))


_HASHES = MeterHashes()


def reading_keys(meter_ids: Sequence[str], event_ms: Longs, phases: Sequence[str | None] | None = None) -> Longs:
    """64-bit hashes of (meter, phase, event time in epoch ms); a reading of the whole meter has no phase.

    >>> reading_keys(["m1", "m1"], np.array([0, 1])).tolist() == reading_keys(["m1", "m1"], np.array([0, 1])).tolist()
    True
    >>> len(set(reading_keys(["m1", "m2", "m1", "m1"], np.array([0, 0, 1, 0]), [None, None, None, "A"]).tolist()))
    4
    """
    names = (
        meter_ids
        if phases is None
        else [m if p is None else m + _PHASE + p for m, p in zip(meter_ids, phases, strict=True)]
    )
    meters = np.fromiter(map(_HASHES.__getitem__, names), np.int64, len(names))
    return mix(meters, event_ms)


def mix(first: Longs, second: Longs) -> Longs:
    """One well mixed 64-bit number for each pair (splitmix64)."""
    with np.errstate(over="ignore"):
        mixed = first.view(np.uint64) + second.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    whole: Longs = (mixed ^ (mixed >> np.uint64(31))).view(np.int64)
    return whole


def whole_minute(event_ms: int) -> int:
    """Start of the minute that holds an event time: keys are remembered and forgotten by whole minutes."""
    return event_ms // _MINUTE_MS * _MINUTE_MS


class RecentKeys:
    """Keys of readings, sorted, one array per minute of event time.

    At 10,000 readings/s a horizon of 10 minutes holds 6 million keys, 48 MB. Two different readings of one minute share
    a key about once in 10^8 minutes at that rate; the second is archived all the same, only flagged is_resent.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, Longs] = {}
        self._looked_at: tuple[Longs, dict[int, Longs]] = _NOTHING, {}
        """Keys that were looked for last, and what the minutes hold together with them, sorted."""

    def find_resent(self, keys: Longs, event_ms: Longs) -> Longs:
        """Rows whose key is known or occurs in an earlier row. The rows are those of a batch, in order of
        (partition, offset, item)."""
        resent: list[Longs] = []
        together: dict[int, Longs] = {}
        for minute, rows in _by_minute(event_ms):
            known = self._minutes.get(minute, _NOTHING)
            # A plain sort takes a tenth of one that says which rows are alike, and there hardly ever are any.
            together[minute] = np.sort(np.concatenate((known, keys[rows])))
            if not _are_new(together[minute]).all():
                resent.append(rows[_again(known, keys[rows])])
        self._looked_at = keys, together
        return np.sort(np.concatenate(resent)) if resent else _NOTHING

    def add(self, keys: Longs, event_ms: Longs) -> None:
        """Remember a batch that is written; after `find_resent` of the same keys that costs next to nothing."""
        known, together = self._looked_at
        if known is not keys:
            self.find_resent(keys, event_ms)
            together = self._looked_at[1]
        for minute, in_order in together.items():
            is_new = _are_new(in_order)
            self._minutes[minute] = in_order if is_new.all() else in_order[is_new]
        self._looked_at = _NOTHING, {}

    def forget_before(self, event_ms: int) -> None:
        """Drop whole minutes before an event time."""
        oldest = event_ms // _MINUTE_MS
        for minute in [m for m in self._minutes if m < oldest]:
            del self._minutes[minute]

    def forget_beyond(self, most: int) -> None:
        """Drop the oldest minutes while more keys than `most` are remembered."""
        while len(self) > most and len(self._minutes) > 1:
            del self._minutes[min(self._minutes)]

    def __len__(self) -> int:
        return sum(len(known) for known in self._minutes.values())


_NOTHING: Longs = np.empty(0, dtype=np.int64)
_MOST_SHORT = 2**16


def _by_minute(event_ms: Longs) -> Iterator[tuple[int, Longs]]:
    """Each minute with its rows, in order."""
    if not len(event_ms):
        return
    minutes = event_ms // _MINUTE_MS
    first = minutes.min()
    since = minutes - first
    # Of short numbers numpy makes a radix sort.
    order = np.argsort(since.astype(np.uint16) if since.max() < _MOST_SHORT else since, kind="stable")
    since = since[order]
    for rows in np.split(order, np.flatnonzero(since[1:] != since[:-1]) + 1):
        yield int(minutes[rows[0]]), rows


def _are_new(in_order: Longs) -> npt.NDArray[np.bool_]:
    """Of sorted keys, which differ from the one before."""
    return np.append(True, in_order[1:] != in_order[:-1])[: len(in_order)]


def _again(known: Longs, keys: Longs) -> Longs:
    """Places of the keys that are among the known ones, which are sorted, or at an earlier place."""
    order = np.argsort(keys, kind="stable")
    in_order = keys[order]
    again = np.isin(in_order, known)
    again[1:] |= in_order[1:] == in_order[:-1]
    return order[again]
