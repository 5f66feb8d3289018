"""A small table that a real-time query joins, brought up to date between its batches at no cost to the hand-over.

A Delta table in the plan costs about a second at every hand-over (listing the log, a Spark job for its state, one for
the files), and in real-time mode readings wait meanwhile. So the driver reads the table by the Delta library and puts
all its rows, as one row with an array, into the place in memory that the plan reads when the next batch starts.

The table is never empty: one row of a meter that cannot be stands in it always. Spark writes other code for a join with
no rows, so the hand-over that saw the first rows had to compile the whole plan anew, and ran it uncompiled at first.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from pipelines.settings import Settings
from pipelines.small_tables import read_rows, table_version
from pipelines.tables import Table

_NOBODY = {"meter_id": ""}
"""No reading that counts has this meter."""


class LiveTable:
    """One table. `frame` is what the plan joins: at the start of each batch it has the rows of the latest `refresh`."""

    def __init__(self, spark: SparkSession, settings: Settings, table: Table) -> None:
        self._spark = spark
        self._settings = settings
        self._table = table
        self._version = table_version(settings, table)
        packed = self._packed()
        jvm: Any = spark.sparkContext._jvm
        # One element that is replaced as a whole: a batch sees the old rows or the new ones, never both.
        self._place = spark.sparkContext._gateway.new_array(jvm.org.apache.spark.sql.catalyst.InternalRow, 1)  # type: ignore[union-attr]
        self._place[0] = _internal_row(packed)
        self.frame = _over(spark, self._place, packed).selectExpr("inline(rows)")

    def refresh(self) -> bool:
        """Read the table again if it has a new version; whether it had."""
        version = table_version(self._settings, self._table)
        if version == self._version:
            return False
        self._place[0] = _internal_row(self._packed())
        self._version = version
        return True

    def _packed(self) -> DataFrame:
        found = read_rows(self._settings, self._table, columns=self._table.column_names)
        schema = pa.schema([field.with_nullable(True) for field in found.schema])
        rows = pa.concat_tables([found.cast(schema), pa.Table.from_pylist([_NOBODY], schema)]).combine_chunks()
        structs = rows.to_struct_array().combine_chunks()
        packed = pa.ListArray.from_arrays(pa.array([0, len(structs)], pa.int32()), structs)
        return self._spark.createDataFrame(pa.table({"rows": packed}))


def _internal_row(one_row: DataFrame) -> Any:
    return one_row._jdf.queryExecution().executedPlan().executeCollect()[0]


def _over(spark: SparkSession, place: Any, like: DataFrame) -> DataFrame:
    """A frame over the rows that stand in a Java array when it is run. Spark has no public way to say so."""
    jvm: Any = spark.sparkContext._jvm
    attributes = jvm.org.apache.spark.sql.catalyst.types.DataTypeUtils.toAttributes(like._jdf.schema())
    rows = jvm.scala.collection.immutable.ArraySeq.unsafeWrapArray(place)
    relation = jvm.org.apache.spark.sql.catalyst.plans.logical.LocalRelation(
        attributes, rows, False, jvm.scala.Option.empty()
    )
    return DataFrame(jvm.org.apache.spark.sql.classic.Dataset.ofRows(spark._jsparkSession, relation), spark)
