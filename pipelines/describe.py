"""What a job would do, as text: messages, tables, and the plans Spark makes of the queries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipelines.conf_files import conf_text
from pipelines.contract import message
from pipelines.settings import Settings
from pipelines.tables import PANES, TABLES, Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

MESSAGES = ("sensor_reading", "anomaly_event", "window_tick", "incident")
KAFKA_RECORD = (
    "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp, timestampType int"
)
"""Columns of Spark's Kafka source."""


def jars() -> list[str]:
    """Coordinates of `spark.jars.packages`; each pulls what it needs."""
    lines = (line.split(maxsplit=1) for line in conf_text("spark-defaults.conf").splitlines())
    return next(line[1].strip().split(",") for line in lines if line[:1] == ["spark.jars.packages"])


def schemas() -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Title, column names and rows of one overview a message and a table."""
    for name in MESSAGES:
        kind = message(name)
        rows = [[f.name, f.type, f.unit or "", "yes" if f.required else "no", f.column] for f in kind.fields]
        yield (
            f"message {kind.name} on topic {kind.topic}",
            ["field", "type", "unit", "required", "column"],
            rows,
        )
    for table in TABLES.values():
        yield _table_title(table), ["column", "type", "unit"], _table_rows(table)


def plans(settings: Settings) -> Iterator[tuple[str, str]]:
    """Query and physical plan of archive and windows over frames without rows. Starts and stops Spark."""
    from pipelines.readings import decision as archive
    from pipelines.session import build_session
    from pipelines.windows import query as windows

    spark = build_session(settings, app_name="gridwatch-describe")
    try:
        records = _no_rows(spark, KAFKA_RECORD)
        yield "archive", explained(archive.build(records, settings))
        yield "windows", explained(windows.build(_no_rows(spark, PANES.schema), settings))
    finally:
        spark.stop()


def explained(frame: DataFrame) -> str:
    """The physical plan of a frame, formatted by Spark."""
    context: Any = frame.sparkSession.sparkContext
    query = frame._jdf.queryExecution()
    return str(context._jvm.org.apache.spark.sql.api.python.PythonSQLUtils.explainString(query, "formatted"))


def _no_rows(spark: SparkSession, schema: StructType | str) -> DataFrame:
    """An RDD without rows: Spark would fold a plan over an empty local table into nothing."""
    return spark.createDataFrame(spark.sparkContext.emptyRDD(), schema)


def _table_title(table: Table) -> str:
    partitions = f", partitioned by {', '.join(table.partition_by)}" if table.partition_by else ""
    return f"table {table.name}: {table.grain}, written by {table.owner}{partitions}"


def _table_rows(table: Table) -> list[list[Any]]:
    return [[c.name, c.type.simpleString(), c.unit or ""] for c in table.columns]
