"""Durations in settings: "10 s", "5 min", "3650 d" or plain seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|min|h|d)?\s*")


def parse_seconds(value: object) -> object:
    """Seconds of a duration text; numbers pass unchanged.

    >>> parse_seconds("5 min")
    300.0
    >>> parse_seconds(10)
    10
    """
    if not isinstance(value, str):
        return value
    if not (match := _FORM.fullmatch(value)):
        raise ValueError("a duration is a number with ms, s, min, h or d, for example '10 s' or '5 min'")
    return float(match[1]) * _UNITS[match[2] or "s"]


def format_seconds(seconds: float) -> str:
    """Shortest exact text of a duration.

    >>> format_seconds(300.0)
    '5 min'
    >>> format_seconds(0.5)
    '500 ms'
    """
    for unit in ("d", "h", "min", "s"):
        count = seconds / _UNITS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)} {unit}"
    return f"{seconds * 1000:g} ms"


def interval(seconds: float) -> str:
    """A length of time as Spark's windows and watermarks take it.

    >>> interval(0.5)
    '500 milliseconds'
    """
    return f"{round(seconds * 1000)} milliseconds"


Seconds = Annotated[float, BeforeValidator(parse_seconds)]
