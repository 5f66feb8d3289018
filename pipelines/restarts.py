"""Bounded restarts of what failed, with growing pauses."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

_LONGEST_PAUSE_S = 60.0


@dataclass
class Restarts:
    """How often something failed in a row. What ran well for `healthy_s` begins to count from one again."""

    most: int
    healthy_s: float = 600.0
    in_a_row: int = 0
    _began: float = field(default_factory=time.monotonic)

    def began(self) -> None:
        """Another life begins now."""
        self._began = time.monotonic()

    def pause_s(self) -> float | None:
        """After a failure: the pause before the next life, 1, 2, 4 ... 60 s; None when there were too many.

        >>> restarts = Restarts(3)
        >>> [restarts.pause_s() for _ in range(4)]
        [1.0, 2.0, 4.0, None]
        """
        lasted_s = time.monotonic() - self._began
        self.in_a_row = 1 if lasted_s > self.healthy_s else self.in_a_row + 1
        return None if self.in_a_row > self.most else min(2.0 ** (self.in_a_row - 1), _LONGEST_PAUSE_S)
