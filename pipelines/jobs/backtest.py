"""Detection again over the archive with other settings, against what was found live: same, new, gone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.jobs.detection import build
from pipelines.settings import Settings
from pipelines.sources import table


@dataclass(frozen=True)
class Difference:
    """Anomalies of one type: found both times, only now, only then."""

    anomaly_type: str
    same: int
    new: int
    gone: int


def backtest(spark: SparkSession, settings: Settings, since: datetime, until: datetime) -> list[Difference]:
    """Compare by anomaly_id, for event times in [since, until), aware (UTC).

    Readings from `run_up` before are read, so that the first windows are whole. The early flags are left out: they
    depend on when the stream closed its windows.
    """
    readings = _between(table(spark, settings, "readings"), since - run_up(settings), until)
    live = _between(table(spark, settings, "anomalies"), since, until)
    detected = build(readings, table(spark, settings, "meters"), table(spark, settings, "profiles"), settings=settings)
    now = detected.anomalies.where(_is_between(since, until))
    return differences(now, live)


def run_up(settings: Settings) -> timedelta:
    """How much earlier than the first event time readings matter."""
    detection = settings.detection
    return timedelta(seconds=detection.drift_s + 2 * detection.window_s)


def differences(now: DataFrame, live: DataFrame) -> list[Difference]:
    """Counts by type over two sets of anomalies, each with anomaly_id, anomaly_type, severity and stage."""
    both = _ids(now, "is_now").join(_ids(live, "is_live"), ["anomaly_id", "anomaly_type"], "full")
    is_now, is_live = (F.coalesce(F.col(name), F.lit(False)) for name in ("is_now", "is_live"))
    counted = both.groupBy("anomaly_type").agg(
        F.count_if(is_now & is_live).alias("same"),
        F.count_if(is_now & ~is_live).alias("new"),
        F.count_if(~is_now & is_live).alias("gone"),
    )
    rows = counted.orderBy("anomaly_type").collect()
    return [Difference(row["anomaly_type"], row["same"], row["new"], row["gone"]) for row in rows]


def _ids(anomalies: DataFrame, name: str) -> DataFrame:
    is_flag = (F.col("anomaly_type") == "voltage_deviation") & (F.col("stage") == "reading")
    return anomalies.where(~is_flag).select("anomaly_id", "anomaly_type", F.lit(True).alias(name))


def _between(rows: DataFrame, since: datetime, until: datetime) -> DataFrame:
    days = F.col("event_date").between(F.lit(since.date()), F.lit(until.date()))
    return rows.where(days & _is_between(since, until))


def _is_between(since: datetime, until: datetime) -> Column:
    return (F.col("event_ts") >= F.lit(since)) & (F.col("event_ts") < F.lit(until))
