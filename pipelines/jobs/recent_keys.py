"""Which readings were sent before: the keys of the recent past, in the driver's memory, by minute of event time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Longs = npt.NDArray[np.int64]

_MINUTE_MS = 60_000


def whole_minute(event_ms: int) -> int:
    """Start of the minute that holds an event time: keys are remembered and forgotten by whole minutes."""
    return event_ms // _MINUTE_MS * _MINUTE_MS


class RecentKeys:
    """64-bit hashes of (meter, event time), sorted, one array a minute.

    At 10,000 readings/s a horizon of 10 minutes holds 6 million keys, 48 MB. Two different keys of one minute share
    a hash about once in 10^8 minutes at that rate; the reading is archived all the same, only flagged is_resent.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, Longs] = {}

    def find_resent(self, keys: Longs, event_ms: Longs, positions: Longs) -> Longs:
        """Positions of the readings whose key is known, or stands at a lower position of the same batch."""
        resent: list[Longs] = []
        for minute, rows in _by_minute(event_ms):
            order = np.lexsort((positions[rows], keys[rows]))
            chosen, in_order = keys[rows][order], positions[rows][order]
            again = np.zeros(len(chosen), dtype=bool)
            again[1:] = chosen[1:] == chosen[:-1]
            if (known := self._minutes.get(minute)) is not None:
                again |= _contains(known, chosen)
            resent.append(in_order[again])
        return np.concatenate(resent) if resent else np.empty(0, dtype=np.int64)

    def add(self, keys: Longs, event_ms: Longs) -> None:
        """Remember a batch that is written."""
        for minute, rows in _by_minute(event_ms):
            known = self._minutes.get(minute)
            added = keys[rows] if known is None else np.concatenate((known, keys[rows]))
            self._minutes[minute] = np.unique(added)

    def forget_before(self, event_ms: int) -> None:
        """Drop whole minutes before an event time."""
        oldest = event_ms // _MINUTE_MS
        for minute in [m for m in self._minutes if m < oldest]:
            del self._minutes[minute]

    def __len__(self) -> int:
        return sum(len(known) for known in self._minutes.values())


def _by_minute(event_ms: Longs) -> Iterator[tuple[int, Longs]]:
    minutes = event_ms // _MINUTE_MS
    order = np.argsort(minutes, kind="stable")
    firsts = np.flatnonzero(np.diff(minutes[order], prepend=np.int64(-1)))
    for rows in np.split(order, firsts)[1:]:
        yield int(minutes[rows[0]]), rows


def _contains(sorted_keys: Longs, wanted: Longs) -> npt.NDArray[np.bool_]:
    at = np.searchsorted(sorted_keys, wanted)
    at[at == len(sorted_keys)] = 0
    found: npt.NDArray[np.bool_] = sorted_keys[at] == wanted
    return found
