"""Figures of the anomalies of a day, by type."""

from __future__ import annotations

import pandas as pd
from duckdb import DuckDBPyConnection

from pipelines.quality.day import Day
from pipelines.quality.suites import ANOMALY_NEVER_NULL
from pipelines.settings import Settings


def by_type(lake: DuckDBPyConnection, day: Day, settings: Settings) -> pd.DataFrame:
    """One row a type, stage and severity; none on a day without anomalies.

    An anomaly of stage reading is looked for only up to the last audited offset of its partition: a detector may be
    ahead of the archive. The window that an anomaly rests on is the first that ends at or after its time.
    `q_anomalies` stays for `of_day`.
    """
    slide = f"INTERVAL '{settings.detection.slide_s:.3f} seconds'"
    before = "event_ts - INTERVAL 1 MICROSECOND"
    end = f"time_bucket({slide}, {before}, TIMESTAMPTZ '1970-01-01') + {slide}"
    lake.execute(
        f"""CREATE TEMP TABLE q_anomalies AS
        SELECT anomaly_id, anomaly_type, stage, severity, meter_id, feeder_id, event_ts, detected_at, rule_version,
            message, score,
            {end} AS window_end,
            source."topic" AS topic, source."partition" AS p, source."offset" AS o,
            coalesce(source_item, 0) AS item FROM d_anomalies"""
    )
    lake.execute(
        """CREATE TEMP TABLE q_found AS
        SELECT DISTINCT a.topic, a.p, a.o, a.item FROM q_anomalies a JOIN d_readings r
        ON r.kafka_topic = a.topic AND r.kafka_partition = a.p AND r.kafka_offset = a.o
            AND coalesce(r.kafka_item, 0) = a.item
        WHERE a.stage = 'reading'"""
    )
    nulls = ", ".join(f"count(*) FILTER (a.{name} IS NULL) AS null_{name}" for name in ANOMALY_NEVER_NULL)
    return lake.execute(
        f"""WITH archived AS (
            SELECT kafka_topic AS topic, kafka_partition AS p, max(last_offset) AS last FROM s_audit GROUP BY 1, 2
        ), windows AS (
            SELECT DISTINCT meter_id, window_end FROM s_windows
            WHERE window_date BETWEEN DATE '{day.date}' AND DATE '{day.end.date()}'
        ), ends AS (SELECT DISTINCT window_end FROM windows)
        SELECT a.anomaly_type, a.stage, a.severity, count(*) AS anomalies, {nulls},
            count(*) FILTER (a.meter_id IS NULL AND a.feeder_id IS NULL) AS without_scope,
            count(a.anomaly_id) - count(DISTINCT a.anomaly_id) AS repeated,
            count(*) FILTER (a.score < 0) AS negative_score,
            if((SELECT count(*) FROM q_meters) = 0, NULL,
                count(*) FILTER (a.meter_id IS NOT NULL AND m.meter_id IS NULL)) AS unknown_meter,
            count(*) FILTER (a.stage = 'reading' AND a.o <= archived.last AND f.o IS NULL) AS orphan_reading,
            count(*) FILTER ((a.stage = 'window' AND w.meter_id IS NULL)
                OR (a.stage = 'feeder' AND e.window_end IS NULL)) AS orphan_window
        FROM q_anomalies a LEFT JOIN q_meters m ON m.meter_id = a.meter_id
        LEFT JOIN archived ON archived.topic = a.topic AND archived.p = a.p
        LEFT JOIN q_found f ON f.topic = a.topic AND f.p = a.p AND f.o = a.o AND f.item = a.item
        LEFT JOIN windows w ON a.stage = 'window' AND w.meter_id = a.meter_id AND w.window_end = a.window_end
        LEFT JOIN ends e ON a.stage = 'feeder' AND e.window_end = a.window_end
        GROUP BY ALL ORDER BY ALL"""
    ).df()


def of_day(lake: DuckDBPyConnection, day: Day) -> pd.DataFrame:
    """One row: parts of the readings and of the meters that are abnormal."""
    return lake.execute(
        f"""SELECT DATE '{day.date}' AS day, count(*) AS anomalies,
            count(DISTINCT (p, o, item)) FILTER (stage = 'reading') / {day.readings} AS reading_share,
            count(DISTINCT meter_id) / (SELECT count(DISTINCT meter_id) FROM q_meter_hour) AS meter_share
        FROM q_anomalies"""
    ).df()
