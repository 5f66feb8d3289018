"""What the commands print: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import sys
import time

_started = time.monotonic()


def say(line: str) -> None:
    """One line to a person, on standard error."""
    print(line, file=sys.stderr, flush=True)


def say_timed(line: str) -> None:
    """One line of progress with the seconds since the command began."""
    say(f"[{time.monotonic() - _started:6.1f} s] {line}")


def show(text: str) -> None:
    """A result, on standard output."""
    print(text, flush=True)
