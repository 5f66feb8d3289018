"""The tables through Spark SQL: slower to start than DuckDB, but the pipeline's own engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import dedent
from typing import Any

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.errors import SettingsError
from pipelines.lake_sql import absolute, left_out, no_tables, readable_tables, views_over
from pipelines.lake_views import ITEM_COLUMNS, View, views_in
from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.sources import table
from pipelines.tables import TABLES, table_path


def ask_spark(settings: Settings, query: str, say: Callable[[str], None]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of a query over one temporary view a table.

    The query runs as a subquery, where Spark's grammar has no room for a statement that writes.
    Raises SettingsError, one line, when Spark refuses it.
    """
    say("starting Spark")
    spark = build_session(settings, app_name="gridwatch-sql")
    try:
        names = add_views(spark, settings)
        for view in views_in(query):
            spark.sql(view_statement(view))
        frame = spark.sql(f"SELECT * FROM (\n{query.strip().rstrip(';')}\n)")
        return frame.columns, [tuple(row) for row in frame.collect()]
    except (AnalysisException, ParseException) as error:
        if error.getCondition() == "TABLE_OR_VIEW_NOT_FOUND":
            unknown = (error.getMessageParameters() or {}).get("relationName", "")
            raise SettingsError(f"no table {unknown}; the lake holds {', '.join(names)}") from None
        raise SettingsError(str(error).strip().split("\n")[0]) from None
    finally:
        spark.stop()


def view_script(settings: Settings) -> str:
    """Statements for the program `spark-sql`: the tables and the views.

    Raises as `open_lake` does: what is not there is left out, with a comment.
    """
    root, there = absolute(settings.lake.root), readable_tables(settings)
    tables = [
        f"CREATE OR REPLACE TEMPORARY VIEW {name} AS {_selected(root, name, columns)};"
        for name, columns in there.items()
    ]
    views = [f"{view_statement(view)};" for view in views_over(there)]
    return "\n".join(["SET spark.sql.session.timeZone = UTC;", *left_out(there), *tables, *views])


def _selected(root: str, name: str, columns: Sequence[str]) -> str:
    """Query of a stored table that has these columns: the number of an item is never null."""
    item = ITEM_COLUMNS.get(name)
    names = ", ".join(f"coalesce({item}, 0) AS {item}" if column == item else column for column in columns)
    return f"SELECT {names if item in columns else '*'} FROM delta.`{table_path(root, name)}`"


def view_statement(view: View) -> str:
    """What makes one of `VIEWS`, in Spark."""
    return f"CREATE OR REPLACE TEMPORARY VIEW {view.name} AS {dedent(view.sql).strip()}"


def add_views(spark: SparkSession, settings: Settings) -> list[str]:
    """Make a temporary view of every table there is; returns their names. SettingsError without any."""
    found = [name for name in TABLES if _add_view(spark, settings, name)]
    if not found:
        raise no_tables(settings.lake.root)
    return found


def _add_view(spark: SparkSession, settings: Settings, name: str) -> bool:
    try:
        rows, item = table(spark, settings, name), ITEM_COLUMNS.get(name)
        rows = rows.withColumn(item, F.coalesce(item, F.lit(0))) if item in rows.columns else rows
        rows.createOrReplaceTempView(name)
    except AnalysisException:
        return False
    return True
