"""From a finding to the AnomalyEvent of the contract: its identity, and its form on the wire."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from pipelines.anomalies.rules import RULE_VERSION

Event = dict[str, Any]
"""A document of `conf/contracts/anomaly_event.json`: its names, in its order."""

_encode = msgspec.json.Encoder().encode


class Finding(NamedTuple):
    """What a rule says of row `row` of the frame that was judged."""

    row: int
    anomaly_type: str
    severity: str
    score: float | None
    observed: float | None
    deviation: float | None
    threshold_used: float | None
    message: str


class Subject(NamedTuple):
    """What findings are about: a meter, or a feeder (`meter_id` is None), at a time. Structs are as on the wire."""

    meter_id: str | None
    feeder_id: str | None
    event_ms: int
    baseline: dict[str, Any] | None
    original_event: dict[str, Any] | None
    source: dict[str, Any] | None
    source_item: int | None
    place: str | None = None
    """Narrows the scope of a feeder: its phase; None for all."""


def original_event(
    meter_id: str, event_ms: int, voltage_v: float, current_a: float | None, temperature_c: float | None,
    status: str | None,
) -> dict[str, Any]:  # fmt: skip
    """The SensorReading of a row, as on the wire."""
    return {
        "meterId": meter_id,
        "timestamp": event_ms,
        "voltage": voltage_v,
        "current": current_a,
        "temperature": temperature_c,
        "status": status,
    }


def source_of(topic: str | None, partition: int | None, offset: int | None, kafka_ms: int | None) -> dict[str, Any]:
    """Kafka coordinates of a row, as on the wire."""
    return {"topic": topic, "partition": partition, "offset": offset, "timestamp": kafka_ms}


def anomaly_event(stage: str, finding: Finding, subject: Subject) -> Event:
    """The event of one finding; `detectedAt` is null until `anomaly_record` sends it."""
    _, anomaly_type, severity, score, observed, deviation, threshold_used, message = finding
    meter_id, feeder_id, event_ms, baseline, original_event, source, source_item, place = subject
    scope = f"feeder|{feeder_id}" if meter_id is None else f"meter|{meter_id}"
    return {
        "anomalyId": anomaly_id(stage, anomaly_type, scope if place is None else f"{scope}/{place}", event_ms),
        "anomalyType": anomaly_type,
        "severity": severity,
        "stage": stage,
        "meterId": meter_id,
        "feederId": feeder_id,
        "eventTime": event_ms,
        "detectedAt": None,
        "score": score,
        "observed": observed,
        "deviation": deviation,
        "thresholdUsed": threshold_used,
        "baseline": baseline,
        "ruleVersion": RULE_VERSION,
        "message": message,
        "originalEvent": original_event,
        "source": source,
        "sourceItem": source_item,
    }


def anomaly_id(stage: str, anomaly_type: str, scope: str, event_ms: int) -> str:
    """Depends on stage, rule, scope and event time only: the same anomaly has the same id in every run.

    >>> anomaly_id("reading", "overvoltage", "meter|m1", 0)[:16]
    '244fc85f119f4c93'
    """
    return sha256(f"{stage}|{anomaly_type}|{scope}|{event_ms}".encode()).hexdigest()


def anomaly_record(event: Event, *, detected_ms: int) -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the Kafka record of an event that is sent at `detected_ms`."""
    key = event["meterId"] or event["feederId"]
    headers = [("anomaly-id", event["anomalyId"].encode())]
    return key.encode(), _encode(event | {"detectedAt": detected_ms}), headers
