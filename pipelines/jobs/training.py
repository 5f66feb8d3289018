"""Child processes of `spark_kit`: resolve the packages, or run a small job whose classes Java archives at its exit."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from pipelines.local.spark_kit import SparkKit
from pipelines.readings.decision import build as build_archive
from pipelines.session import build_session, end_jvm
from pipelines.settings import Settings
from pipelines.tables import PANES
from pipelines.windows.query import build as build_windows

_RECORD = '{"meterId":"m-1","timestamp":1772359200000,"voltage":230.1,"current":5.5,"temperature":20.1,"status":null}'
_RECORDS = "key binary, value binary, partition int, offset bigint, timestamp timestamp"


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
    """The classes of both queries: decode in Python, keep, and stream panes from Delta into windows on RocksDB."""
    settings = Settings()
    record = (None, bytearray(_RECORD.encode()), 0, 1, None)
    records = spark.createDataFrame([record], _RECORDS).withColumn("timestamp", F.current_timestamp())
    chunks = build_archive(records, settings).persist()
    chunks.drop("readings", "refused").toArrow()
    pane = {"meter_id": "m-1", "n": 1, "last_ts": datetime(2026, 3, 1)}
    rows = [tuple(pane.get(name) for name in PANES.column_names)]
    spark.createDataFrame(rows, PANES.schema).write.format("delta").save(f"{folder}/panes")
    stream = spark.readStream.format("delta").load(f"{folder}/panes")
    writer = build_windows(stream, settings).writeStream.foreachBatch(lambda batch, _: batch.persist().toArrow())
    writer.option("checkpointLocation", f"{folder}/checkpoint").trigger(availableNow=True).start().awaitTermination()


if __name__ == "__main__":
    main(sys.argv[1])
