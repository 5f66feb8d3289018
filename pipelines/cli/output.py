"""What the commands print: results to standard output, progress and errors to standard error."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Mapping
from typing import TextIO

_started = time.monotonic()
_CODES = {"red": 31, "green": 32, "yellow": 33, "dim": 2}


def say(line: str) -> None:
    """One line to a person, on standard error."""
    print(line, file=sys.stderr, flush=True)


def say_timed(line: str) -> None:
    """One line of progress with the seconds since the command began."""
    say(f"[{time.monotonic() - _started:6.1f} s] {line}")


def show(text: str) -> None:
    """A result, on standard output."""
    print(text, flush=True)


def has_colours(stream: TextIO) -> bool:
    """Whether colours belong there: a terminal that knows them, and a user who has not said no (no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(table: str, colours: Mapping[str, str], stream: TextIO | None = None) -> str:
    """A table in which the cells of the second column that are a key of `colours` have that colour, on a terminal."""
    if not has_colours(stream or sys.stdout):
        return table
    words = "|".join(map(re.escape, colours))

    def paint(match: re.Match[str]) -> str:
        return f"{match[1]}\x1b[{_CODES[colours[match[2]]]}m{match[2]}\x1b[0m"

    return re.sub(rf"(?m)^(\S+(?: \S+)*  +)({words})\b", paint, table)
