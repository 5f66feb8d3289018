"""Detection over files: readings and fleet in, windows, anomalies and incidents out."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.fleet import read_fleet
from pipelines.jobs.context import Say
from pipelines.jobs.detection import build, incidents_of
from pipelines.jobs.reading_files import open_readings, write_uniform
from pipelines.jobs.reading_match import Pace, mismatches, slower
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema
from pipelines.tables import INCIDENTS, METERS


@dataclass(frozen=True)
class Outcome:
    """What was read and found."""

    readings: int
    refused: int
    repeated: int
    windows: int
    anomalies: dict[str, int]
    incidents: int
    notifications: int


def detect(
    spark: SparkSession, settings: Settings, *, readings: Path, fleet: Path | None, out: Path, say: Say
) -> Outcome:
    """Write `windows.parquet`, `anomalies.parquet` and `incidents.parquet` into the folder `out`.

    A reading without meter, time or finite voltage is refused and counted; of several readings of one meter and
    time the first of the file counts. Raises SettingsError for a file that cannot be read or lacks a column.
    """
    known = read_fleet(fleet, settings.detection, option="--fleet") if fleet else []
    meters = spark.createDataFrame(known, METERS.schema)
    out.mkdir(parents=True, exist_ok=True)
    uniform = out / "readings.tmp.parquet"
    try:
        written = write_uniform(open_readings(readings), uniform)
        for line in mismatches(written, {row[0] for row in known} if fleet else None):
            say(f"warning: {line}")
        return _detect(spark, settings, spark.read.parquet(str(uniform)), written.count, meters, out, say)
    finally:
        uniform.unlink(missing_ok=True)


def _detect(
    spark: SparkSession, settings: Settings, raw: DataFrame, total: int, meters: DataFrame, out: Path, say: Say
) -> Outcome:
    usable = as_readings(raw).persist()
    paces = [Pace(*row) for row in _paces(usable).collect()]
    kept = sum(pace.readings for pace in paces)
    repeated = sum(pace.repeated for pace in paces)
    say(f"{total:,} readings, {total - kept:,} refused, {repeated:,} repeated")
    for line in slower(paces, settings.detection.cadence_s):
        say(f"warning: {line}")
    detected = build(usable, meters, None, settings=settings)
    say("detected")
    rows = _write_frame(detected.windows.drop("window_date"), out / "windows.parquet")
    say(f"{rows:,} windows")
    _write_frame(detected.anomalies, out / "anomalies.parquet")
    counted = detected.anomalies.groupBy("anomaly_type").count().orderBy("anomaly_type").collect()
    incidents = incidents_of(detected, settings=settings)
    pq.write_table(pa.Table.from_pylist(incidents, schema=arrow_schema(INCIDENTS)), out / "incidents.parquet")
    usable.unpersist()
    by_type = {row[0]: row[1] for row in counted}
    alerts = sum(row["alerts"] for row in incidents)
    return Outcome(total, total - kept, repeated, rows, by_type, len(incidents), alerts)


def _paces(usable: DataFrame) -> DataFrame:
    """One row a meter in the order of `Pace`; span in seconds."""
    span = F.max("event_ts").cast("double") - F.min("event_ts").cast("double")
    return usable.groupBy("meter_id").agg(F.count("*"), F.sum(F.col("is_resent").cast("int")), span)


def as_readings(rows: DataFrame) -> DataFrame:
    """The usable rows of `reading_files.SCHEMA`, in the columns that the transforms take.

    is_late is false: a file has no arrival. Other measurements than the voltage that are not finite become null.
    """
    finite = {name: F.when(F.abs(name) < float("inf"), F.col(name)) for name in ("current_a", "temperature_c")}
    usable = rows.where(
        (F.length("meter_id") > 0) & F.col("ts").isNotNull() & (F.abs("voltage_v") < float("inf"))
    ).withColumns(finite)
    first = usable.groupBy("meter_id", "ts").agg(F.min("row_number").alias("first_row"))
    marked = usable.join(first, ["meter_id", "ts"])
    return marked.select(
        "meter_id",
        F.col("ts").alias("event_ts"),
        "voltage_v",
        "current_a",
        "temperature_c",
        "status",
        F.lit(False).alias("is_late"),
        (F.col("row_number") > F.col("first_row")).alias("is_resent"),
        F.lit(None).cast("string").alias("kafka_topic"),
        F.lit(None).cast("int").alias("kafka_partition"),
        F.col("row_number").alias("kafka_offset"),
        F.lit(None).cast("timestamp").alias("kafka_ts"),
        F.col("ts").cast("date").alias("event_date"),
    )


def _write_frame(frame: DataFrame, path: Path) -> int:
    """Write one parquet file; Spark itself writes folders."""
    folder = path.with_suffix(".tmp")
    # Spark's own default, INT96, has no zone for other readers of the file.
    frame.sparkSession.conf.set("spark.sql.parquet.outputTimestampType", "TIMESTAMP_MICROS")
    frame.coalesce(1).write.mode("overwrite").parquet(str(folder))
    (part,) = folder.glob("part-*.parquet")
    part.replace(path)
    shutil.rmtree(folder)
    return int(pq.read_metadata(path).num_rows)
