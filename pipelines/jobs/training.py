"""Child processes of `spark_kit`: resolve the packages, or run a small job whose classes Java archives at its exit."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.jobs import archive
from pipelines.local.spark_kit import SparkKit
from pipelines.session import build_session, end_jvm
from pipelines.settings import Settings
from pipelines.sources import empty_table
from pipelines.tables import PANES, READINGS
from pipelines.windows.query import build as build_windows

_RECORD = '{"meterId":"m-1","timestamp":1772359200000,"voltage":230.1,"current":5.5,"temperature":20.1,"status":null}'
_RECORDS = "key binary, value binary, topic string, partition int, offset bigint, timestamp timestamp"


def main(step: str) -> None:
    """`resolve` copies the resolved jars into the folder GRIDWATCH_KIT; `train` reads the kit from it as JSON."""
    told = os.environ.pop("GRIDWATCH_KIT")
    if step == "resolve":
        spark = build_session(Settings(), kit=None)
        for jar in spark.sparkContext.getConf().get("spark.jars", "").split(","):
            shutil.copy(jar.removeprefix("file:"), told)
    else:
        kit = {name: Path(path) for name, path in json.loads(told).items()}
        spark = build_session(Settings(), kit=SparkKit(**kit), jvm_options=f"-XX:ArchiveClassesAtExit={kit['archive']}")
        with tempfile.TemporaryDirectory() as folder:
            _small_job(spark, folder)
    end_jvm(spark)


def _small_job(spark: SparkSession, folder: str) -> None:
    """The classes of both queries: parse, judge, write Delta, stream it into windows on RocksDB."""
    settings = Settings()
    record = (None, bytearray(_RECORD.encode()), "t", 0, 1, None)
    records = spark.createDataFrame([record], _RECORDS).withColumn("timestamp", F.current_timestamp())
    flagged = archive.build(records, meters=empty_table(spark, "meters"), settings=settings)
    judged = archive.judge(flagged, empty_table(spark, "baselines"), settings=settings).persist()
    judged.toArrow()
    readings = judged.select(*[_column(judged, field.name, field.dataType) for field in READINGS.schema])
    readings.write.format("delta").partitionBy("event_date").save(f"{folder}/readings")
    spark.createDataFrame([], PANES.schema).write.format("delta").save(f"{folder}/panes")
    stream = spark.readStream.format("delta").load(f"{folder}/panes")
    writer = build_windows(stream, settings).writeStream.foreachBatch(lambda batch, _: batch.persist().toArrow())
    writer.option("checkpointLocation", f"{folder}/checkpoint").trigger(availableNow=True).start().awaitTermination()


def _column(frame: DataFrame, name: str, kind: Any) -> Any:
    return F.col(name) if name in frame.columns else F.lit(None).cast(kind).alias(name)


if __name__ == "__main__":
    main(sys.argv[1])
