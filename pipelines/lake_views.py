"""Views for common questions, in SQL that DuckDB and Spark both read. A view may use the ones before it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_LATEST = "(SELECT max(window_end) FROM meter_windows)"
"""The latest window end of the fleet."""


ITEM_COLUMNS = {"readings": "kafka_item", "rejected": "kafka_item", "anomalies": "source_item"}
"""Columns that are null in rows of before records carried several readings; readers see 0 there."""


@dataclass(frozen=True)
class View:
    """One view: what it answers, and its query."""

    name: str
    question: str
    sql: str


_LAST_SAID = """
SELECT incident_id, action, verdict, operator, note, said_at, mute_until,
    row_number() OVER (PARTITION BY incident_id, action ORDER BY said_at DESC, action_id DESC) AS newest
FROM operator_actions"""

_BEHIND = """
SELECT a.anomaly_id, a.anomaly_type, a.stage, r.meter_id, r.event_ts, r.voltage_v, r.current_a, r.temperature_c,
    r.status, r.is_late, r.is_resent, r.kafka_topic, r.kafka_partition, r.kafka_offset,
    coalesce(r.kafka_item, 0) AS kafka_item
FROM anomalies a"""

VIEWS: tuple[View, ...] = (
    View(
        "incident_desk",
        "Every incident with what operators said of it: who looks after it, what it turned out to be.",
        f"""
        WITH said AS ({_LAST_SAID}), acknowledged AS (
            SELECT incident_id, said_at, operator FROM said WHERE action = 'acknowledge' AND newest = 1
        ), judged AS (
            SELECT incident_id, verdict, note FROM said WHERE action = 'feedback' AND newest = 1
        )
        SELECT i.*, a.said_at AS acknowledged_at, a.operator AS acknowledged_by, j.verdict, j.note
        FROM incidents i
        LEFT JOIN acknowledged a ON a.incident_id = i.incident_id
        LEFT JOIN judged j ON j.incident_id = i.incident_id""",
    ),
    View(
        "open_incidents",
        "What is open and explained by nothing else, the worst first.",
        """
        SELECT severity, scope, meter_id, feeder_id, family, anomaly_type, opened_at, last_anomaly_at, anomalies,
            acknowledged_by, message, incident_id
        FROM incident_desk
        WHERE status = 'open' AND parent_id IS NULL
        ORDER BY CASE severity WHEN 'CRITICAL' THEN 0 WHEN 'ERROR' THEN 1 ELSE 2 END, opened_at DESC""",
    ),
    View(
        "meter_now",
        "Every meter at the latest window end: voltage, silence, how far off its nominal voltage.",
        f"""
        SELECT m.meter_id, m.feeder_id, m.transformer_id, m.phase, w.window_end, coalesce(w.n, 0) AS n,
            coalesce(w.n, 0) = 0 AS is_silent, w.last_event_ts, w.mean_v, w.min_v, w.max_v, w.residual_v,
            w.mean_v / coalesce(m.nominal_voltage_v, 230.0) AS mean_pu
        FROM meters m
        LEFT JOIN (SELECT * FROM meter_windows WHERE window_end = {_LATEST}) w ON w.meter_id = m.meter_id""",
    ),
    View(
        "feeder_now",
        "Every feeder at the latest window end: meters, silent ones, voltages, open incidents.",
        """
        SELECT f.feeder_id, f.meters, f.silent, f.mean_v, f.min_v, f.max_v,
            coalesce(i.incidents_open, 0) AS incidents_open
        FROM (
            SELECT feeder_id, count(*) AS meters, sum(CASE WHEN is_silent THEN 1 ELSE 0 END) AS silent,
                avg(mean_v) AS mean_v, min(min_v) AS min_v, max(max_v) AS max_v
            FROM meter_now GROUP BY feeder_id
        ) f
        LEFT JOIN (
            SELECT feeder_id, count(*) AS incidents_open FROM incidents WHERE status = 'open' GROUP BY feeder_id
        ) i ON i.feeder_id = f.feeder_id""",
    ),
    View(
        "voltage_bands",
        "By day and feeder, the share of window means within 5 %, within 10 % and outside 10 % of the nominal voltage.",
        """
        SELECT window_date, feeder_id, count(*) AS windows,
            avg(CASE WHEN abs(pu - 1) <= 0.05 THEN 1.0 ELSE 0.0 END) AS within_5,
            avg(CASE WHEN abs(pu - 1) <= 0.10 THEN 1.0 ELSE 0.0 END) AS within_10,
            avg(CASE WHEN abs(pu - 1) > 0.10 THEN 1.0 ELSE 0.0 END) AS outside_10
        FROM (
            SELECT w.window_date, m.feeder_id, w.mean_v / coalesce(m.nominal_voltage_v, 230.0) AS pu
            FROM meter_windows w JOIN meters m ON m.meter_id = w.meter_id
            WHERE w.n > 0 AND w.mean_v IS NOT NULL
        ) v
        GROUP BY window_date, feeder_id""",
    ),
    View(
        "worst_meters",
        "Meters by the time they were in incidents, the worst first.",
        """
        SELECT meter_id, feeder_id, count(*) AS incidents, sum(duration_s) AS seconds, sum(anomalies) AS anomalies,
            sum(CASE WHEN severity = 'CRITICAL' THEN 1 ELSE 0 END) AS critical, max(last_anomaly_at) AS last_anomaly_at
        FROM incidents WHERE scope = 'meter' GROUP BY meter_id, feeder_id
        ORDER BY seconds DESC, incidents DESC, meter_id""",
    ),
    View(
        "anomalies_by_hour",
        "By hour, rule and severity, how many anomalies and how many meters.",
        """
        SELECT date_trunc('hour', event_ts) AS hour, anomaly_type, severity, count(*) AS anomalies,
            count(DISTINCT meter_id) AS meters
        FROM anomalies GROUP BY date_trunc('hour', event_ts), anomaly_type, severity""",
    ),
    View(
        "anomaly_readings",
        "The raw readings behind an anomaly (name its anomaly_id): the one it judged, those of its window, or those"
        " of its feeder's meters in the minute before.",
        f"""
        {_BEHIND}
        JOIN readings r ON r.kafka_topic = a.source.topic AND r.kafka_partition = a.source.partition
            AND r.kafka_offset = a.source.offset AND coalesce(r.kafka_item, 0) = coalesce(a.source_item, 0)
        WHERE a.stage = 'reading' OR a.anomaly_type = 'meter_silent'
        UNION ALL
        {_BEHIND}
        JOIN meter_windows w ON w.meter_id = a.meter_id AND w.window_end = a.event_ts
        JOIN readings r ON r.meter_id = a.meter_id AND r.event_ts >= w.window_start AND r.event_ts < w.window_end
            AND r.event_date BETWEEN CAST(w.window_start AS DATE) AND w.window_date
        WHERE a.stage = 'window' AND a.anomaly_type <> 'meter_silent'
        UNION ALL
        {_BEHIND}
        JOIN meters m ON m.feeder_id = a.feeder_id
        JOIN readings r ON r.meter_id = m.meter_id AND r.event_ts <= a.event_ts
            AND r.event_ts > a.event_ts - INTERVAL '1' MINUTE
            AND r.event_date BETWEEN CAST(a.event_ts - INTERVAL '1' MINUTE AS DATE) AND a.event_date
        WHERE a.stage = 'feeder'""",
    ),
    View(
        "feedback_by_rule",
        "By rule, how often operators said confirmed, false or expected: what to tune first.",
        """
        SELECT anomaly_type, count(*) AS incidents, count(verdict) AS judged,
            sum(CASE WHEN verdict = 'confirmed' THEN 1 ELSE 0 END) AS confirmed,
            sum(CASE WHEN verdict = 'false' THEN 1 ELSE 0 END) AS false_alarms,
            sum(CASE WHEN verdict = 'expected' THEN 1 ELSE 0 END) AS expected
        FROM incident_desk GROUP BY anomaly_type""",
    ),
    View(
        "delivery_by_hour",
        "By hour of the broker's clock, records in, accepted, rejected, late and sent again.",
        """
        SELECT date_trunc('hour', max_kafka_ts) AS hour, sum(records_in) AS records_in, sum(accepted) AS accepted,
            sum(rejected) AS rejected, sum(late) AS late, sum(resent) AS resent
        FROM audit WHERE skipped_because IS NULL GROUP BY date_trunc('hour', max_kafka_ts)""",
    ),
)


def views_in(sql: str) -> list[View]:
    """The views that a query names, and those they are made of, in the order in which they are to be made.

    >>> [view.name for view in views_in("SELECT * FROM open_incidents")]
    ['incident_desk', 'open_incidents']
    """
    wanted: list[View] = []
    text = sql
    for view in reversed(VIEWS):
        if re.search(rf"\b{view.name}\b", text, flags=re.IGNORECASE):
            wanted.insert(0, view)
            text += view.sql
    return wanted


def tables_in(sql: str, tables: Iterable[str]) -> set[str]:
    """Those of the tables that a query names, itself or through a view.

    >>> sorted(tables_in("SELECT * FROM open_incidents", ["readings", "incidents", "anomalies", "operator_actions"]))
    ['incidents', 'operator_actions']
    """
    texts = [(r"\b", sql), *((r"\b(?:FROM|JOIN)\s+", view.sql) for view in views_in(sql))]
    return {
        name for name in tables for before, text in texts if re.search(rf"{before}{name}\b", text, flags=re.IGNORECASE)
    }
