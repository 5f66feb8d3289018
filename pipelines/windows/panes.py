"""What is kept of the readings of one meter in one slide of the windows: defined once, as data, for Polars and Spark.

A figure is an aggregate of a quantity over the readings that meet a condition, and it merges with the same figure of
other readings: so partial panes of several chunks, batches or processes add up to the pane of all their readings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import polars as pl
from pyspark.sql import Column
from pyspark.sql import functions as F

MIDDLE_V = 230.0
"""Voltages are summed as differences from here, so that their squares keep the digits a spread is made of."""

_DISTANCE = f"possible_v - {MIDDLE_V}"
_SQUARE = f"({_DISTANCE}) * ({_DISTANCE})"


@dataclass(frozen=True)
class Figure:
    """One column of a pane. `condition` and `quantity` are SQL over a countable reading that Polars and Spark both
    read; a reading whose quantity is null does not count. An impossible measurement is null, whatever the others of its
    reading are (`flags.MEASURED`)."""

    name: str
    condition: str
    quantity: str
    aggregate: Literal["count", "sum", "min", "max"]

    @property
    def merge(self) -> Literal["sum", "min", "max"]:
        """How values of several panes become one; null where none has a value."""
        return "sum" if self.aggregate == "count" else self.aggregate


def _moments(name: str, condition: str) -> Iterable[Figure]:
    yield Figure(f"{name}_n", condition, _DISTANCE, "count")
    yield Figure(f"{name}_sum", condition, _DISTANCE, "sum")
    yield Figure(f"{name}_squares", condition, _SQUARE, "sum")


FIGURES: tuple[Figure, ...] = (
    Figure("n", "true", "event_ts", "count"),
    *_moments("in_band", "is_in_band"),
    Figure("in_band_current_n", "is_in_band", "possible_a", "count"),
    Figure("in_band_current_sum", "is_in_band", "possible_a", "sum"),
    *_moments("plausible", "true"),
    Figure("least_v", "true", "possible_v", "min"),
    Figure("most_v", "true", "possible_v", "max"),
    Figure("out_ts", "possible_v IS NOT NULL AND NOT is_in_band", "event_ts", "min"),
    Figure("least_a", "true", "possible_a", "min"),
    Figure("most_a", "true", "possible_a", "max"),
    Figure("least_c", "true", "possible_c", "min"),
    Figure("most_c", "true", "possible_c", "max"),
    Figure("last_ts", "true", "event_ts", "max"),
)
"""Every figure of a pane, in the order and under the names of the table `panes`."""

_KEYS = ("meter_id", "phase", "pane_start")
_MOMENT = pl.Datetime("us", "UTC")


def partial_panes(countable: pl.DataFrame, *, slide_s: float) -> pl.DataFrame:
    """The panes of some readings: columns of the table `panes` but generation and batch_id, one row per meter and pane.

    In: readings that are neither late nor re-sent, with meter_id, event_ms, is_in_band and the columns of
    `flags.MEASURED`. `phase` is null: readings are of the whole meter; the phase that
    `meters` gives a meter is not it. Panes are [start, start + slide), aligned to the epoch.
    """
    slide_ms = round(slide_s * 1000)
    start_ms = pl.col("event_ms") // slide_ms * slide_ms
    timed = countable.lazy().with_columns(event_ts=_moment(pl.col("event_ms")), pane_start=_moment(start_ms))
    masks = {(f.condition, f.quantity): f"{f.condition}: {f.quantity}" for f in FIGURES}
    masked = timed.select(
        "meter_id",
        pl.lit(None, pl.String).alias("phase"),
        "pane_start",
        *(pl.when(pl.sql_expr(where)).then(pl.sql_expr(what)).alias(name) for (where, what), name in masks.items()),
    )
    figures = [_in_polars(f.aggregate, masks[f.condition, f.quantity]).alias(f.name) for f in FIGURES]
    return masked.group_by(_KEYS).agg(figures).collect()


def merge_panes(panes: pl.DataFrame) -> pl.DataFrame:
    """Partial panes as one row per meter and pane, in the same columns; generation and batch_id are dropped."""
    return panes.group_by(_KEYS).agg(_in_polars(f.merge, f.name).alias(f.name) for f in FIGURES)


def merged_in_spark() -> dict[str, Column]:
    """Aggregates over rows of the table `panes` that merge them, by name of the figure."""
    return {f.name: _IN_SPARK[f.merge](F.col(f.name)) for f in FIGURES}


_IN_SPARK = {"sum": F.sum, "min": F.min, "max": F.max}


def _in_polars(aggregate: str, column: str) -> pl.Expr:
    """An aggregate of the values that are not null; null when there is none, but for a count, as in Spark."""
    values = pl.col(column)
    if aggregate == "count":
        return values.count().cast(pl.Int64)
    if aggregate == "sum":  # Polars sums nothing to 0
        return pl.when(values.count() > 0).then(values.sum())
    return values.min() if aggregate == "min" else values.max()


def _moment(epoch_ms: pl.Expr) -> pl.Expr:
    return (epoch_ms * 1000).cast(_MOMENT)


def empty_panes() -> pl.DataFrame:
    """No rows, in the columns of `partial_panes`."""
    keys: dict[str, pl.DataType] = {"meter_id": pl.String(), "phase": pl.String(), "pane_start": _MOMENT}
    return pl.DataFrame(schema=keys | {f.name: _polars_type(f) for f in FIGURES})


def _polars_type(figure: Figure) -> pl.DataType:
    if figure.quantity == "event_ts" and figure.aggregate != "count":
        return _MOMENT
    return pl.Int64() if figure.aggregate == "count" else pl.Float64()
