"""One line that says how the run goes, on stderr."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from generator.labels import iso_ms
from generator.scenario import Scenario

EVERY_S = 5.0
EVERY_TTY_S = 0.5


class Progress:
    """Prints produced, rate, event clock and active faults.

    On a terminal one line is rewritten in place, else a line comes every 5 s. `quiet` silences progress,
    not warnings.
    """

    def __init__(self, scenario: Scenario, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._faults = scenario.faults
        self._quiet = quiet
        self._stream = stream or sys.stderr
        self._tty = self._stream.isatty()
        self._begun = self._last = time.monotonic()
        self._last_count = 0
        self._last_warning = 0.0
        self._open_line = False

    def tick(self, produced: int, event_ms: float) -> None:
        """Print a line when it is time; `event_ms` is the data's clock."""
        passed = time.monotonic() - self._last
        if self._quiet or passed < (EVERY_TTY_S if self._tty else EVERY_S):
            return
        active = sum(fault.start_ms <= event_ms < fault.end_ms for fault in self._faults)
        rate = (produced - self._last_count) / passed
        clock = iso_ms(event_ms)
        self._show(f"{produced} records, {rate:.0f}/s, event clock {clock}, {active} faults active")
        self._last, self._last_count = time.monotonic(), produced

    def say(self, text: str) -> None:
        """Print a line of its own unless quiet."""
        if not self._quiet:
            self._line(text)

    def warn(self, text: str) -> None:
        """Print a warning, at most one every 5 s."""
        if time.monotonic() - self._last_warning >= EVERY_S:
            self._last_warning = time.monotonic()
            self._line(text)

    def _show(self, text: str) -> None:
        if self._tty:
            self._stream.write("\r\x1b[K" + text)
            self._stream.flush()
            self._open_line = True
        else:
            self._line(text)

    def _line(self, text: str) -> None:
        self._stream.write(("\n" if self._open_line else "") + text + "\n")
        self._stream.flush()
        self._open_line = False
