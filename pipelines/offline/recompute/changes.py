"""What differs between rows that are stored and rows computed again: new, changed, gone. Plain Python."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from pipelines.incidents.rows import epoch_ms

Row = Mapping[str, Any]

NEW, CHANGED, GONE = "new", "changed", "gone"
LABELS = (NEW, CHANGED, GONE)
DIGITS = 6
"""Numbers that agree to so many digits behind the point are the same: a sum in another order rounds differently."""
TOLERANCE = 10.0**-DIGITS


@dataclass(frozen=True)
class Change:
    """One row of a table before and after; None where it was not, or is no more, there."""

    key: str
    before: Row | None
    after: Row | None

    @property
    def label(self) -> str:
        """One of LABELS."""
        return NEW if self.before is None else GONE if self.after is None else CHANGED

    @property
    def row(self) -> Row:
        """The row as it is now, or as it was when it is gone."""
        return self.after or self.before or {}


def changes_between(
    before: Iterable[Row], after: Iterable[Row], *, key: str, ignored: Collection[str] = (), kept: Collection[str] = ()
) -> list[Change]:
    """The rows that differ, by a text key, in its order.

    `ignored`: columns that make no difference. `kept`: columns of a changed row that stay as they are stored.
    """
    old, new = {row[key]: row for row in before}, {row[key]: row for row in after}
    found = []
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was is not None and now is not None:
            if all(same(was[column], now[column]) for column in was if column not in ignored):
                continue
            now = {**now, **{column: was[column] for column in kept}}
        found.append(Change(name, was, now))
    return found


def same(one: Any, other: Any) -> bool:
    """Whether two values of a column are the same, numbers within TOLERANCE.

    >>> same(230.1, 230.1000000001), same({"n": 3, "mean": 1.0}, {"n": 3, "mean": 1.1}), same(None, 0.0)
    (True, False, False)
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=TOLERANCE)
    return bool(one == other)


def count(changes: Iterable[Change]) -> dict[str, int]:
    """How many of each label.

    >>> count([Change("a", None, {}), Change("b", {}, None)])
    {'new': 1, 'changed': 0, 'gone': 1}
    """
    found = Counter(change.label for change in changes)
    return {label: found[label] for label in LABELS}


def count_by(changes: Iterable[Change], column: str) -> dict[str, dict[str, int]]:
    """The same by the value of a column."""
    parts: dict[str, list[Change]] = {}
    for change in changes:
        parts.setdefault(str(change.row[column]), []).append(change)
    return {name: count(part) for name, part in sorted(parts.items())}


def as_json(row: Row | None) -> str | None:
    """A row as a JSON object, times as epoch milliseconds, numbers to DIGITS; None for none."""
    return None if row is None else json.dumps(_plain(row), ensure_ascii=False, separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        return epoch_ms(value)
    if isinstance(value, date):
        return str(value)
    return round(value, DIGITS) if isinstance(value, float) else value
