"""An expectation as a value: what the docs, the judge and the results table read. Knows no Great Expectations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["fail", "warn"]


@dataclass(frozen=True)
class Check:
    """One expectation: its name, unique in its suite, the class of Great Expectations and its arguments."""

    name: str
    severity: Severity
    meaning: str
    """One sentence of what holds on a good day."""
    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """What is expected of one frame of facts about one table.

    `key` are the columns that tell a row of the frame to a person.
    """

    table: str
    frame: str
    grain: str
    key: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        """`table.frame`.

        >>> Suite("audit", "batches", "a batch", (), ()).name
        'audit.batches'
        """
        return f"{self.table}.{self.frame}"


def none_of(name: str, column: str, severity: Severity, meaning: str) -> Check:
    """The column counts what must not be: it is 0 in every row."""
    return within(name, column, severity, meaning, low=0, high=0)


def within(
    name: str, column: str, severity: Severity, meaning: str,
    *, low: float | None = None, high: float | None = None, mostly: float = 1.0,
) -> Check:  # fmt: skip
    """The column lies in [low, high] in this part of the rows at least; null says nothing."""
    return Check(
        name, severity, meaning, "ExpectColumnValuesToBeBetween",
        {"column": column, "min_value": low, "max_value": high, "mostly": mostly},
    )  # fmt: skip


def known(name: str, column: str, severity: Severity, meaning: str) -> Check:
    """The column is null in no row."""
    return Check(name, severity, meaning, "ExpectColumnValuesToNotBeNull", {"column": column})


def one_of(name: str, column: str, values: tuple[str, ...], severity: Severity, meaning: str) -> Check:
    """The column holds these values only."""
    return Check(name, severity, meaning, "ExpectColumnValuesToBeInSet", {"column": column, "value_set": list(values)})


def some_rows(name: str, severity: Severity, meaning: str) -> Check:
    """The frame has a row."""
    return Check(name, severity, meaning, "ExpectTableRowCountToBeBetween", {"min_value": 1, "max_value": None})


def columns_suite(table: str) -> Suite:
    """The stored columns of a table beside those of the contract, one row a column."""
    return Suite(
        table, "columns", "a column", ("column",),
        (
            Check(
                "columns_as_documented", "fail", "The table has the columns of the data dictionary, each of its type.",
                "ExpectColumnPairValuesToBeEqual", {"column_A": "stored", "column_B": "documented"},
            ),
        ),
    )  # fmt: skip
