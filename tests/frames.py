"""The frames of `factories` in Polars: rows of tables with only what matters written out."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl
import pyarrow as pa
from pyspark.sql import types as T
from pyspark.sql.pandas.types import to_arrow_schema

from pipelines.readings.flags import MEASURED
from pipelines.tables import ANOMALIES, METERS, READINGS
from tests import factories
from tests.factories import Values


def readings(rows: Iterable[Values], **defaults: object) -> pl.DataFrame:
    """Rows of the table readings."""
    return _frame(READINGS.schema, *factories.reading_rows(rows, defaults))


def possible(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with is_plausible and the columns of `flags.MEASURED`: of an implausible one no measurement is possible."""
    return rows.with_columns(pl.when("is_plausible").then(of).alias(name) for name, of in MEASURED.items())


def meters(rows: Iterable[Values]) -> pl.DataFrame:
    """Rows of the table meters."""
    return _frame(METERS.schema, rows, factories.METER_DEFAULTS)


def windows(
    rows: Iterable[Values], *, window_s: float = 300.0, placed: bool = True, **defaults: object
) -> pl.DataFrame:
    """Rows of meter_windows; `placed` adds topology and profile."""
    return _frame(*factories.window_rows(rows, window_s, placed=placed, defaults=defaults))


def anomalies(rows: Iterable[Values]) -> pl.DataFrame:
    """Rows of the table anomalies."""
    return _frame(ANOMALIES.schema, map(factories.anomaly_values, rows), {})


def _frame(schema: T.StructType, rows: Iterable[Values], defaults: Values) -> pl.DataFrame:
    complete = factories.complete_rows(schema, rows, defaults)
    return pl.DataFrame(pa.Table.from_pylist(complete, schema=to_arrow_schema(schema, timezone="UTC")))
