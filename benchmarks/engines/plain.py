"""The plain build: from_json, sliding windows with the product's feature list, flagged windows to Kafka. No checks,
no tables, no rules but one. What a careful reader of Spark's guide would write.

`python -m benchmarks.engines.plain JOB.json`
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from benchmarks.load import SLIDE_S, WATERMARK_S, WINDOW_S
from benchmarks.measure import READY
from pipelines.session import build_session
from pipelines.settings import Settings

_SCHEMA = "meterId string, timestamp bigint, voltage double, current double, temperature double, status string"
_BATCH = 1_000_000


def main(job_file: str) -> None:
    """Drain the topic once, then wait to be ended."""
    job = json.loads(Path(job_file).read_text(encoding="utf-8"))
    spark = build_session(Settings())
    sys.stdout.write(READY + "\n")
    sys.stdout.flush()
    flagged = flag(summarise(read(spark, job)))
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


def summarise(readings: DataFrame) -> DataFrame:
    """The product's features of every (meter, window), each reading counted in all of its windows."""
    bounds = F.window("event_ts", f"{WINDOW_S} seconds", f"{SLIDE_S} seconds")
    is_tested = F.unix_seconds("event_ts") >= F.unix_seconds(F.col("bounds")["end"]) - SLIDE_S
    placed = readings.withColumn("bounds", bounds).withColumn("is_tested", is_tested)
    base, tested = F.expr("is_in_band AND NOT is_tested"), F.expr("is_in_band AND is_tested")
    whole = F.expr("is_plausible")
    last = F.expr("is_plausible AND is_tested")

    def of(part: Column, quantity: str) -> Column:
        return F.when(part, F.col(quantity))

    volts, amperes, degrees = "voltage_v", "current_a", "temperature_c"
    features = {
        "n": F.count(F.lit(1)),
        **{f"{name}_n": F.count(of(part, volts)) for name, part in (("base", base), ("tested", tested))},
        **{f"{name}_mean_v": F.avg(of(part, volts)) for name, part in (("base", base), ("tested", tested))},
        **{f"{name}_std_v": F.stddev_samp(of(part, volts)) for name, part in (("base", base), ("tested", tested))},
        "tested_min_v": F.min(of(last, volts)), "tested_max_v": F.max(of(last, volts)),
        "tested_min_current_a": F.min(of(last, amperes)), "tested_max_current_a": F.max(of(last, amperes)),
        "tested_max_temperature_c": F.max(of(last, degrees)),
        "base_mean_current_a": F.avg(of(base, amperes)),
        "plausible_n": F.count(of(whole, volts)), "mean_v": F.avg(of(whole, volts)),
        "std_v": F.stddev_samp(of(whole, volts)), "min_v": F.min(of(whole, volts)), "max_v": F.max(of(whole, volts)),
        "max_current_a": F.max(of(whole, amperes)), "min_temperature_c": F.min(of(whole, degrees)),
        "max_temperature_c": F.max(of(whole, degrees)), "last_event_ts": F.max("event_ts"),
    }  # fmt: skip
    summed = placed.groupBy("bounds", "meter_id").agg(*(value.alias(name) for name, value in features.items()))
    return summed.withColumn("window_end", F.col("bounds")["end"]).drop("bounds")


def flag(windows: DataFrame) -> DataFrame:
    """The windows whose last minute leaves the baseline before it (the rule of benchmarks/answers.py)."""
    allowed = "greatest(2.5 * greatest(base_std_v, 1.15), 6.9)"
    return windows.where(
        f"base_n >= 8 AND (abs(tested_max_v - base_mean_v) > {allowed} OR abs(tested_min_v - base_mean_v) > {allowed})"
    )


if __name__ == "__main__":
    main(sys.argv[1])
