"""The plain build: from_json, sliding windows with the product's feature list, flagged windows to Kafka. No checks,
no tables, no rules but one. What a careful reader of Spark's guide would write.

`python -m benchmarks.engines.plain JOB.json`
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.load import SLIDE_S, WATERMARK_S, WINDOW_S
from benchmarks.measure import READY
from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.transforms.windows import summarise_windows

_SCHEMA = "meterId string, timestamp bigint, voltage double, current double, temperature double, status string"
_BATCH = 1_000_000


def main(job_file: str) -> None:
    """Drain the topic once, then wait to be ended."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    spark = build_session(Settings())
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    flagged = flag(summarise_windows(read(spark, job), window_s=WINDOW_S, slide_s=SLIDE_S))
    columns = F.struct("*", F.unix_millis("window_end").alias("window_end_ms"))
    writer = flagged.select(F.to_json(columns).alias("value")).writeStream.format("kafka").outputMode("append")
    writer = writer.option("kafka.bootstrap.servers", job["bootstrap"]).option("topic", job["out"])
    writer = writer.option("checkpointLocation", f"{job['folder']}/checkpoint")
    writer.trigger(availableNow=True).start().awaitTermination()
    signal.pause()


def read(spark: SparkSession, job: dict[str, str]) -> DataFrame:
    """Readings of the topic with event time, watermark and the two flags the features need."""
    reader = spark.readStream.format("kafka").option("kafka.bootstrap.servers", job["bootstrap"])
    reader = reader.option("subscribe", job["topic"]).option("startingOffsets", "earliest")
    records = reader.option("maxOffsetsPerTrigger", _BATCH).load()
    document = records.select(F.from_json(F.col("value").cast("string"), _SCHEMA).alias("d"))
    readings = document.select(
        F.col("d.meterId").alias("meter_id"),
        F.timestamp_millis("d.timestamp").alias("event_ts"),
        F.col("d.voltage").alias("voltage_v"),
        F.col("d.current").alias("current_a"),
        F.col("d.temperature").alias("temperature_c"),
    )
    flags = {
        "is_plausible": F.expr("voltage_v BETWEEN 0 AND 345"),
        "is_in_band": F.expr("voltage_v BETWEEN 207 AND 253"),
    }
    return readings.withColumns(flags).withWatermark("event_ts", f"{WATERMARK_S} seconds")


def flag(windows: DataFrame) -> DataFrame:
    """The windows whose last minute leaves the baseline before it (the rule of benchmarks/answers.py)."""
    allowed = "greatest(2.5 * greatest(base_std_v, 1.15), 6.9)"
    return windows.where(
        f"base_n >= 8 AND (abs(tested_max_v - base_mean_v) > {allowed} OR abs(tested_min_v - base_mean_v) > {allowed})"
    )


if __name__ == "__main__":
    main(sys.argv[1])
