"""The rows of the fault matrix: registered by number, run one after the other, each held or not held with a reason."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pipelines.errors import GridwatchError
from tests.faults.bench import Bench
from tests.faults.expect import NotHeld, NotTried

Figures = dict[str, Any]
Run = Callable[[Bench], Figures]

WAITING: dict[int, str] = {}
"""Rows whose commands or refusals are not built yet, with what they wait for: not run, reported as not held."""


@dataclass(frozen=True)
class Row:
    """One fault and what is tried."""

    number: int
    fault: str
    expected: str
    in_short: bool
    run: Run


ROWS: dict[int, Row] = {}
ATTEMPTS = 3
"""How often a fault is tried to be brought about."""

LAST = (15, 14)
"""They spoil the topics of the shared scene, so they run after all others, in this order."""


def row(number: int, fault: str, expected: str, *, short: bool = False) -> Callable[[Run], Run]:
    """Register a function as a row; `short`: part of CI's form."""

    def register(run: Run) -> Run:
        ROWS[number] = Row(number, fault, expected, short, run)
        return run

    return register


def in_order(numbers: Iterable[int]) -> list[Row]:
    """Rows in the order in which they can share a scene."""
    wanted = set(numbers)
    first = [ROWS[n] for n in sorted(wanted - set(LAST))]
    return first + [ROWS[n] for n in LAST if n in wanted]


def try_row(one: Row, bench: Bench) -> dict[str, Any]:
    """Run a row; an expectation that is not met is its reason. The shared scenes survive or are made anew.

    A row whose fault could not be brought about is tried again; `not_tried` of the result says why each time.
    """
    began = time.monotonic()
    figures: Figures = {}
    not_tried: list[str] = []
    reason = WAITING.get(one.number)
    if reason is None:
        try:
            figures = _run(one, bench, not_tried)
        except (NotHeld, AssertionError, GridwatchError, OSError, TimeoutError) as problem:
            reason = f"{type(problem).__name__}: {problem}" if not isinstance(problem, NotHeld) else str(problem)
            bench.forget_shared()
        except Exception as problem:  # a row that breaks must not take the others with it
            reason = f"harness: {problem!r}"
            bench.say(traceback.format_exc())
            bench.forget_shared()
    return {
        "row": one.number,
        "fault": one.fault,
        "expected": one.expected,
        "held": reason is None,
        "reason": reason,
        "seconds": round(time.monotonic() - began, 1),
        "not_tried": not_tried,
        "figures": figures,
    }


def _run(one: Row, bench: Bench, not_tried: list[str]) -> Figures:
    while True:
        try:
            with bench.healed():
                return one.run(bench)
        except NotTried as problem:
            not_tried.append(str(problem))
            bench.say(f"row {one.number}: not brought about: {problem}")
            if len(not_tried) == ATTEMPTS:
                raise
            bench.forget_shared()
