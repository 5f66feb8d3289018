"""Runs inputs through the pipeline's decoder and compares each outcome with a validator in plain Python."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipelines.readings.decode import Decoded, Decoder
from pipelines.settings import Settings
from tests.factories import NOON_MS
from tests.fuzz.mutate import Value
from tests.fuzz.validator import FIELDS, REASONS, read

ACCEPTED = "accepted"
COLUMNS = ("meter_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status", "extra")
"""Columns of a decoded reading."""
_NAMES = tuple(field["name"] for field in FIELDS)
_MARKS = (b"{", b"[", b"\\", b'":', b"\x00", b"e", b"-", b"\n", b"/")

Outcome = str | dict[str, Any]
"""The reason of a rejection, or the values of a reading by column."""


@dataclass
class Verdict:
    """What a batch showed: outcomes, and inputs on which decoder and validator disagree or the decoder crashed."""

    outcomes: Counter[str] = field(default_factory=Counter)
    disagreements: list[tuple[Value, str, str]] = field(default_factory=list)
    crashes: list[tuple[Value, str]] = field(default_factory=list)
    novel: list[Value] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.disagreements or self.crashes)


def judge(values: Sequence[Value], seen: set[object] | None = None, decoder: Decoder | None = None) -> Verdict:
    """Every input has exactly one outcome; accepted exactly when the validator accepts, and with its values.

    `seen`: signatures of outcomes known so far; inputs with a new one are `novel`, and it is added. `decoder`: one that
    has decoded before, with default settings.
    """
    verdict = Verdict()
    for value, outcome in zip(values, _decide(decoder or Decoder(Settings().input), values, verdict), strict=True):
        if outcome is None:
            continue
        _compare(value, outcome, verdict)
        signature = _signature(value, outcome)
        if seen is not None and signature not in seen:
            seen.add(signature)
            verdict.novel.append(value)
    return verdict


def outcomes(decoded: Decoded, count: int) -> list[Outcome | None]:
    """The outcome of each of `count` records; raises ValueError when one has none, or two."""
    found: list[Outcome | None] = [None] * count
    readings = zip(*(getattr(decoded, column) for column in COLUMNS), strict=True)
    accepted = {
        row: dict(zip(COLUMNS, values, strict=True)) for row, values in zip(decoded.rows, readings, strict=True)
    }
    rejected = {one.row: one.reason for one in decoded.rejections}
    if (
        len(accepted) + len(rejected) != len(decoded.rows) + len(decoded.rejections)
        or accepted.keys() & rejected.keys()
    ):
        raise ValueError("a record has two outcomes")
    if accepted.keys() | rejected.keys() != set(range(count)):
        raise ValueError(f"{len(accepted) + len(rejected)} outcomes of {count} records")
    for row, outcome in (*accepted.items(), *rejected.items()):
        found[row] = outcome
    return found


def _decide(decoder: Decoder, values: Sequence[Value], verdict: Verdict) -> list[Outcome | None]:
    try:
        return outcomes(decoder.decode(values, [NOON_MS] * len(values)), len(values))
    except Exception as error:  # whatever it is: no input may raise
        if len(values) == 1:
            verdict.crashes.append((values[0], f"{type(error).__name__}: {error}"))
            return [None]
        half = len(values) // 2
        return _decide(decoder, values[:half], verdict) + _decide(decoder, values[half:], verdict)


def _compare(value: Value, outcome: Outcome, verdict: Verdict) -> None:
    limits = Settings().input
    verdict.outcomes[outcome if isinstance(outcome, str) else ACCEPTED] += 1
    wanted = read(value, max_skew_s=limits.max_skew, max_age_s=limits.max_age)
    if isinstance(outcome, str):
        if wanted is not None or outcome not in REASONS:
            verdict.disagreements.append((value, outcome, "valid" if wanted is not None else "no such reason"))
        return
    if wanted is None:
        verdict.disagreements.append((value, ACCEPTED, "not valid"))
        return
    found = [outcome[column] for column in COLUMNS[:-1]]
    extra = json.loads(outcome["extra"] or "{}", parse_constant=str)
    if found != [wanted[name] for name in _NAMES] or extra != wanted["extra"]:
        verdict.disagreements.append((value, str(outcome), str(wanted)))


def _signature(value: Value, outcome: Outcome) -> object:
    """What makes an outcome worth another look: reason, which columns were read, and the shape of the text."""
    text = value or b""
    marks = tuple(min(text.count(mark), 3) for mark in _MARKS)
    high = not text.isascii()
    if isinstance(outcome, str):
        return outcome, marks, high
    return tuple(outcome[name] is None for name in COLUMNS[3:]), marks, high
