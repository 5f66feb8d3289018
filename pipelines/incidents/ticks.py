"""The clock of the incidents: a window end moves it when everything that precedes it has been read and judged.

Anomalies and ticks are two topics: a consumer may see a tick before anomalies that were sent earlier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from pipelines.errors import InfrastructureUnavailable

Offsets = Mapping[int, int]
"""Next offset of each partition."""

PATIENCE_S = 300.0
"""A tick waits for the alerts this long at most."""
_ASKED_EVERY_S = 0.5


@dataclass(frozen=True)
class Tick:
    """A closed window end, as the topic has it."""

    window_end: datetime
    partition: int
    offset: int
    archived: Offsets | None = None
    """Up to where the archive had read each partition of the readings; None in ticks of earlier versions."""


@dataclass
class _Waiting:
    tick: Tick
    came: float
    needed: Offsets
    """Committed ends of the partitions of `anomalies` when the tick was read."""


@dataclass
class WaitingTicks:
    """Ticks that were read and have not moved the clock yet, in the order of the topic.

    `judged` says up to where the alerts have judged each partition of the readings; InfrastructureUnavailable from it
    counts as no answer. `say` is told once per life that a tick no longer waits for the alerts.
    """

    judged: Callable[[], Offsets]
    say: Callable[[str], None]
    _waiting: deque[_Waiting] = field(default_factory=deque)
    _asked_at: float = float("-inf")
    _known: dict[int, int] = field(default_factory=dict)
    _is_told: bool = False

    def add(self, ticks: Sequence[Tick], *, now: float, anomalies_end: Offsets) -> None:
        """Ticks that were read just now; `anomalies_end`: the committed ends of `anomalies`, asked after that."""
        self._waiting.extend(_Waiting(tick, now, anomalies_end) for tick in ticks)

    def take(self, read: Offsets, *, now: float) -> datetime | None:
        """The latest window end whose tick waits for nothing any more; None while there is none.

        `read`: next offset of each partition of `anomalies`; `now`: monotonic seconds.
        """
        latest: datetime | None = None
        while self._waiting and self._may_go(self._waiting[0], read, now):
            end = self._waiting.popleft().tick.window_end
            latest = end if latest is None else max(latest, end)
        return latest

    def first_offsets(self) -> dict[int, int]:
        """Offset of the first waiting tick of each partition: what comes before it is done."""
        first: dict[int, int] = {}
        for waiting in self._waiting:
            first.setdefault(waiting.tick.partition, waiting.tick.offset)
        return first

    def __len__(self) -> int:
        return len(self._waiting)

    def _may_go(self, waiting: _Waiting, read: Offsets, now: float) -> bool:
        if not reached(read, waiting.needed):
            return False
        archived = waiting.tick.archived
        if not archived or reached(self._known, archived):
            return True
        if now - self._asked_at >= _ASKED_EVERY_S:
            self._asked_at = now
            try:
                self._known = dict(self.judged())
            except InfrastructureUnavailable:
                self._known = {}
        if reached(self._known, archived):
            return True
        if now - waiting.came < PATIENCE_S:
            return False
        if not self._is_told:
            self._is_told = True
            self.say(
                f"the alerts have not judged up to window end {waiting.tick.window_end:%H:%M:%S} within"
                f" {PATIENCE_S:g} s: incidents close without waiting for them any longer; `gridwatch doctor` shows"
                " how far behind they are"
            )
        return True


def reached(read: Offsets, needed: Offsets) -> bool:
    """Whether every partition is at its needed offset.

    >>> reached({0: 5, 1: 3}, {0: 5}), reached({0: 5}, {0: 5, 1: 0}), reached({0: 5}, {1: 1})
    (True, True, False)
    """
    return all(read.get(partition, 0) >= offset for partition, offset in needed.items())
