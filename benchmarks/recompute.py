"""`python -m benchmarks.recompute`: how long `gridwatch recompute` takes over a day of one-minute readings."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.small_tables import create_tables
from pipelines.sources import table
from pipelines.tables import READINGS, table_path
from pipelines.transforms.readings import attach_meters, flag_readings
from pipelines.transforms.topology import compare_with_feeder
from pipelines.transforms.windows import complete_fleet, countable, summarise_windows

DAY, MINUTES, AFFECTED = "2026-03-02", 1440, 100
"""Every so many-th meter was late from 06:00 to 07:00 (or in one minute of each hour), and corrected from 08:00 on for
an hour."""


def readings(spark: SparkSession, meters: int, *, all_day: bool) -> DataFrame:
    """A day of readings about 230 V."""
    minute, meter = F.col("id") % MINUTES, (F.col("id") / MINUTES).cast("long")
    is_affected = meter % AFFECTED == 0
    noise = (F.pmod(F.xxhash64("id"), F.lit(2001)) - 1000) / 1000
    known = {
        "meter_id": F.format_string("m%06d", meter),
        "event_ts": F.timestamp_seconds(F.unix_timestamp(F.lit(f"{DAY} 00:00:00").cast("timestamp")) + minute * 60),
        "voltage_v": F.lit(230.0) + noise, "current_a": F.lit(5.0), "temperature_c": F.lit(20.0), "status": F.lit("OK"),
        "is_late": is_affected & (minute % 60 == 30 if all_day else minute.between(360, 419)),
        "is_resent": F.lit(False),
        "kafka_topic": F.lit("sensor-readings"), "kafka_partition": F.lit(0), "kafka_offset": F.col("id"),
    }  # fmt: skip
    first = spark.range(meters * MINUTES).select(*(value.alias(name) for name, value in known.items()))
    wrong = F.col("meter_id").isin([f"m{m:06d}" for m in range(0, meters, AFFECTED)]) & (F.hour("event_ts") == F.lit(8))
    again = first.where(wrong).withColumns(
        {"voltage_v": F.lit(190.0), "is_resent": F.lit(True), "kafka_offset": F.col("kafka_offset") + 10**9}
    )
    return first.unionByName(again).withColumns(
        {"kafka_ts": F.col("event_ts"), "event_date": F.col("event_ts").cast("date")}
    )


def build_lake(settings: Settings, meters: int, *, all_day: bool) -> None:
    """The tables as the stream would have left them, but for anomalies of its own."""
    create_tables(settings)
    spark = build_session(settings, app_name="benchmark")
    try:
        detection, known = settings.detection, table(spark, settings, "meters")
        placed = attach_meters(readings(spark, meters, all_day=all_day), known, detection=detection)
        flagged = flag_readings(placed, detection=detection)
        names = [F.col(n) if n in flagged.columns else F.lit(None).alias(n) for n in READINGS.column_names]
        flagged.select(*names).write.format("delta").mode("append").save(table_path(settings.lake.root, READINGS.name))
        stored = countable(table(spark, settings, "readings"))
        made = summarise_windows(stored, window_s=detection.window_s, slide_s=detection.slide_s)
        windows = complete_fleet(made.where(F.col("window_date") == DAY).localCheckpoint(), made.limit(0), known)
        placed_windows = attach_meters(windows, known, detection=detection)
        rows = compare_with_feeder(placed_windows, detection=detection)
        rows.write.format("delta").mode("append").save(table_path(settings.lake.root, "meter_windows"))
    finally:
        spark.stop()


def main() -> int:
    """Print one JSON line a run: dry, written, and written again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--all-day", action="store_true", help="late in every hour: all windows of the day again")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gridwatch-bench-") as folder:
        here = Path(folder)
        values = {"lake.root": here / "lake", "pipeline.checkpoint": here / "checkpoint", "detection.cadence_s": 60}
        settings = Settings.model_validate(
            {
                "lake": {"root": str(here / "lake")}, "pipeline": {"checkpoint": str(here / "checkpoint")},
                "detection": {"cadence_s": 60},
            }
        )  # fmt: skip
        build_lake(settings, args.meters, all_day=args.all_day)
        words = [sys.executable, "-m", "pipelines", "recompute", "--from", DAY, "--to", "2026-03-03", "--json"]
        words += [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
        for more in (["--dry-run"], [], []):
            began = time.monotonic()
            done = subprocess.run([*words, *more], stdout=subprocess.PIPE, check=True, text=True)
            found = json.loads(done.stdout)
            figures = {name: found[name] for name in ("readings", "meter_windows", "anomalies", "incidents", "written")}
            print(json.dumps({"meters": args.meters, "seconds": round(time.monotonic() - began, 1), **figures}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
