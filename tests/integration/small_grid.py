"""Two feeders of three meters over forty minutes, written without Spark: enough for a page to show."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from kafka import KafkaProducer

from pipelines.anomalies.rules import RULE_VERSION
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, create_tables, replace_rows
from pipelines.tables import ANOMALIES, AUDIT, METER_WINDOWS, METERS, READINGS, Table

MINUTES = 40
END = datetime.now(UTC).replace(second=0, microsecond=0)
START = END - timedelta(minutes=MINUTES)
METER_IDS = [f"m-{number}" for number in range(1, 7)]
SICK = "m-2"
"""Below the band in the last ten minutes."""


def feeder_of(meter: str) -> str:
    """Three meters a feeder."""
    return "f-1" if meter in METER_IDS[:3] else "f-2"


def epoch_ms(moment: datetime) -> int:
    """Epoch milliseconds."""
    return int(moment.timestamp() * 1000)


def write_lake(settings: Settings) -> None:
    """Create all tables and fill those that the console reads."""
    create_tables(settings)
    _write(settings, METERS, [
        {"meter_id": m, "feeder_id": feeder_of(m), "transformer_id": "t-1", "phase": "ABC"[n % 3],
         "nominal_voltage_v": 230.0, "rated_current_a": 63.0}
        for n, m in enumerate(METER_IDS)
    ])  # fmt: skip
    moments = [START + timedelta(seconds=10 * n) for n in range(MINUTES * 6 + 1)]
    _write(settings, READINGS, [
        {"meter_id": m, "event_ts": at, "voltage_v": voltage(m, at), "current_a": 5.0, "temperature_c": 20.0,
         "is_plausible": True, "is_in_band": True, "is_late": False, "is_resent": False,
         "kafka_topic": settings.kafka.topics.readings, "kafka_partition": n % 2, "kafka_offset": i,
         "kafka_ts": at, "event_date": at.date()}
        for n, m in enumerate(METER_IDS) for i, at in enumerate(moments)
    ])  # fmt: skip
    ends = [START + timedelta(minutes=n) for n in range(5, MINUTES + 1)]
    _write(settings, METER_WINDOWS, [
        {"meter_id": m, "window_start": at - timedelta(minutes=5), "window_end": at, "n": 30, "base_n": 24,
         "base_mean_v": 231.0, "base_std_v": 0.6, "tested_n": 6, "mean_v": voltage(m, at), "min_v": voltage(m, at) - 1,
         "max_v": 232.0, "max_current_a": 6.0, "last_event_ts": at, "residual_v": -0.3, "window_date": at.date()}
        for m in METER_IDS for at in ends
    ])  # fmt: skip
    _write(settings, AUDIT, [
        {"generation": "g", "batch_id": 0, "kafka_topic": settings.kafka.topics.readings, "kafka_partition": p,
         "first_offset": 0, "last_offset": 99, "records_in": 100, "accepted": 98, "rejected": 2,
         "rejected_by_reason": [("corrupt", 2)], "late": 1, "resent": 1}
        for p in range(2)
    ])  # fmt: skip
    found = [anomaly(f"stored-{n}", SICK, END - timedelta(seconds=10 * n)) for n in range(5)]
    _write(settings, ANOMALIES, [
        {"anomaly_id": one["anomalyId"], "anomaly_type": one["anomalyType"], "severity": one["severity"],
         "stage": one["stage"], "meter_id": one["meterId"], "feeder_id": one["feederId"],
         "event_ts": datetime.fromtimestamp(one["eventTime"] / 1000, UTC), "score": one["score"],
         "observed": one["observed"], "deviation": one["deviation"], "threshold_used": one["thresholdUsed"],
         "message": one["message"], "event_date": END.date(), "rule_version": RULE_VERSION}
        for one in found
    ])  # fmt: skip


def voltage(meter: str, at: datetime) -> float:
    """About 231 V; the sick meter at 196 V for its last ten minutes."""
    wave = 0.6 * math.sin(at.timestamp() / 60 + METER_IDS.index(meter))
    return round((196.0 if meter == SICK and at > END - timedelta(minutes=10) else 231.0) + wave, 1)


def incident(name: str, *, severity: str = "WARNING", kind: str = "undervoltage", **changes: Any) -> dict[str, Any]:
    """An open incident of the sick meter, as the topic has it; times are recent."""
    opened = epoch_ms(END - timedelta(minutes=10))
    return {
        "incidentId": name, "scope": "meter", "meterId": SICK, "feederId": feeder_of(SICK), "family": "voltage-low",
        "anomalyType": kind, "status": "open", "severity": severity, "openedAt": opened,
        "lastAnomalyAt": epoch_ms(END), "closedAt": None, "durationS": 600.0, "anomalies": 60, "alerts": 1,
        "worstValue": 195.2, "severityHistory": [{"at": opened, "severity": severity, "anomalyType": kind}],
        "parentId": None, "muted": None, "message": f"Meter {SICK}: 196.0 V is below the lower limit of 207.0 V.",
    } | changes  # fmt: skip


def anomaly(name: str, meter: str = SICK, at: datetime | None = None, **changes: Any) -> dict[str, Any]:
    """A finding of stage reading, as the topic has it."""
    return {
        "anomalyId": name, "anomalyType": "undervoltage", "severity": "WARNING", "stage": "reading", "meterId": meter,
        "feederId": feeder_of(meter), "eventTime": epoch_ms(at or END), "detectedAt": int(time.time() * 1000),
        "score": 1.2, "observed": 196.0, "deviation": -11.0, "thresholdUsed": 207.0, "baseline": None,
        "ruleVersion": RULE_VERSION, "message": f"Meter {meter}: 196.0 V is below the band's lower limit of 207.0 V.",
        "originalEvent": None,
        "source": {"topic": "t", "partition": 0, "offset": 1, "timestamp": int(time.time() * 1000) - 5},
    } | changes  # fmt: skip


def send(
    settings: Settings, topic: str, *documents: dict[str, Any], key: str = "incidentId", pause_s: float = 0
) -> None:
    """Append documents to a topic, each on its way before the next."""
    producer = KafkaProducer(bootstrap_servers=settings.kafka.bootstrap_servers, linger_ms=0)
    try:
        for document in documents:
            producer.send(topic, key=str(document[key]).encode(), value=json.dumps(document).encode())
            if pause_s:
                time.sleep(pause_s)
        producer.flush()
    finally:
        producer.close()


def _write(settings: Settings, table: Table, rows: list[dict[str, Any]]) -> None:
    replace_rows(pa.Table.from_pylist(rows, schema=arrow_schema(table)), settings, table)
