"""Rules over the rows of a frame: a rule is a value, the expressions of its severity and numbers, and its text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import itemgetter

import polars as pl

from pipelines.anomalies.events import Finding


@dataclass(frozen=True)
class RowRule:
    """What a rule says of a row; it is silent where `severity` is null."""

    anomaly_type: str
    severity: pl.Expr
    observed: pl.Expr
    threshold: pl.Expr
    deviation: pl.Expr
    score: pl.Expr
    text: Callable[..., str]
    """Makes the message of the values of `text_of`. Called for found rows only."""
    text_of: tuple[pl.Expr, ...]

    @cached_property
    def values(self) -> list[pl.Expr]:
        """Score, observed, deviation, threshold, and what `text` takes, as columns 0, 1, ..."""
        numbers = [number.cast(pl.Float64) for number in (self.score, self.observed, self.deviation, self.threshold)]
        return [value.alias(str(place)) for place, value in enumerate([*numbers, *self.text_of])]


class RuleSet:
    """Some rules, in the order in which their findings of one row come; made once, used for many frames."""

    def __init__(self, rules: Sequence[RowRule]) -> None:
        self._rules = rules
        self._severities = [rule.severity.alias(str(place)) for place, rule in enumerate(rules)]

    def findings(self, rows: pl.DataFrame) -> list[Finding]:
        """Findings by row. Several rules may share an anomaly type."""
        severities = rows.select(self._severities)
        found = (_of_rule(rule, rows, severities[str(place)]) for place, rule in enumerate(self._rules))
        return sorted(chain.from_iterable(found), key=itemgetter(0))


def _of_rule(rule: RowRule, rows: pl.DataFrame, severity: pl.Series) -> list[Finding]:
    if severity.null_count() == severity.len():
        return []
    places = severity.is_not_null().arg_true()
    values = rows[places].select(rule.values).rows()
    return [
        Finding(row, rule.anomaly_type, graded, score, observed, deviation, threshold, rule.text(*of_text))
        for row, graded, (score, observed, deviation, threshold, *of_text) in zip(
            places.to_list(), severity.gather(places).to_list(), values, strict=True
        )
    ]


def first_of(*cases: tuple[pl.Expr, str]) -> pl.Expr:
    """The text of the first condition that holds, or null."""
    (condition, text), *others = cases
    chosen = pl.when(condition).then(pl.lit(text))
    for other, its_text in others:
        chosen = chosen.when(other).then(pl.lit(its_text))  # type: ignore[assignment]
    return chosen


def ratio(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Null where `whole` is 0."""
    return pl.when(whole != 0).then(part / whole)


def number(limit: float | pl.Expr) -> pl.Expr:
    """A limit as an expression, whether classes differ in it or not."""
    return limit if isinstance(limit, pl.Expr) else pl.lit(limit)


def all_of(conditions: Iterable[pl.Expr]) -> pl.Expr:
    """Whether all hold: false where one is false, else null where one is null."""
    return pl.all_horizontal(list(conditions))
