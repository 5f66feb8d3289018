"""What differs between rows of meter_windows that are stored and rows computed again."""

from __future__ import annotations

import polars as pl

from pipelines.offline.recompute.changes import CHANGED, GONE, NEW, TOLERANCE, as_json
from pipelines.tables import METER_WINDOWS

KEY = ("meter_id", "window_end")


def window_changes(before: pl.DataFrame, after: pl.DataFrame) -> pl.DataFrame:
    """The rows that differ: the columns of meter_windows as they are to be (as they were, when gone), `change`, and
    both as JSON in `was` and `now`, null where there is none."""
    names = METER_WINDOWS.column_names
    old = before.select(*KEY, pl.struct(names).alias("old"))
    new = after.select(*KEY, pl.struct(names).alias("new"))
    both = old.join(new, on=KEY, how="full", coalesce=True)
    differ = pl.any_horizontal(~_same(name, before.schema[name]) for name in names)
    is_new, is_gone = pl.col("old").is_null(), pl.col("new").is_null()
    change = pl.when(is_new).then(pl.lit(NEW)).when(is_gone).then(pl.lit(GONE)).when(differ).then(pl.lit(CHANGED))
    found = both.with_columns(change=change).filter(pl.col("change").is_not_null()).sort(KEY)
    row = pl.coalesce("new", "old")
    texts = [pl.Series(name, [as_json(one) for one in found[side]], pl.String) for name, side in _SIDES]
    return found.select(*(row.struct.field(name) for name in names), "change").with_columns(texts)


_SIDES = (("was", "old"), ("now", "new"))


def _same(name: str, kind: pl.DataType) -> pl.Expr:
    one, other = pl.col("old").struct.field(name), pl.col("new").struct.field(name)
    if not kind.is_float():
        return one.eq_missing(other)
    within = (one - other).abs() <= pl.max_horizontal(pl.lit(TOLERANCE), one.abs() * 1e-9)
    return within.fill_null(one.is_null() & other.is_null())
