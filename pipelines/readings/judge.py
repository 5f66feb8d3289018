"""From accepted readings to AnomalyEvents of stage reading."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipelines.anomalies.events import Event, anomaly_event
from pipelines.readings.bounds import Bounds
from pipelines.readings.meters import known_meters, placed_meters
from pipelines.readings.rules import Finding, ReadingRules
from pipelines.settings import Detection

_NEEDED = (
    "meter_id", "feeder_id", "event_ms", "voltage_v", "current_a", "temperature_c", "status",
    "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ms", "kafka_item", "baseline",
)  # fmt: skip


class ReadingJudge:
    """The rules with one version of settings, meters and baselines; make another one when a version changes.

    `bounds.inside` says which readings need not be judged.
    """

    def __init__(self, detection: Detection, meters: pl.DataFrame, baselines: pl.DataFrame | None = None) -> None:
        """In: the tables meters and baselines; None: there are no baselines, voltage_deviation is silent."""
        known = known_meters(placed_meters(meters, detection=detection), baselines, detection=detection)
        self.bounds = Bounds(known, detection=detection)
        self._known = known.drop("meter_id")
        self._rules = ReadingRules(detection)

    def events(self, readings: pl.DataFrame) -> list[Event]:
        """Events in the order of the readings; `detectedAt` is null, the sender sets it.

        In: meter_id, event_ms, voltage_v, current_a, temperature_c, status, kafka_topic, kafka_partition,
        kafka_offset, kafka_ms, kafka_item.
        """
        row_of, unknown = self.bounds.rows.get, self.bounds.unknown
        rows = [row_of(meter_id, unknown) for meter_id in readings["meter_id"].to_list()]
        return reading_events(readings.hstack(self._known[rows]), self._rules)


def reading_events(placed: pl.DataFrame, rules: ReadingRules) -> list[Event]:
    """Events of readings with the columns of `attach_meters` and, where there are baselines, of BASELINE."""
    marked = rules.mark(placed)
    findings = rules.findings(marked)
    readings = marked.select(_NEEDED).rows(named=True) if findings else []
    return [_event(finding, readings[finding.row]) for finding in findings]


def _event(finding: Finding, reading: dict[str, Any]) -> Event:
    return anomaly_event(
        stage="reading",
        anomaly_type=finding.anomaly_type,
        severity=finding.severity,
        meter_id=reading["meter_id"],
        feeder_id=reading["feeder_id"],
        event_ms=reading["event_ms"],
        score=finding.score,
        observed=finding.observed,
        deviation=finding.deviation,
        threshold_used=finding.threshold_used,
        baseline=reading["baseline"],
        message=finding.message,
        original_event={
            "meterId": reading["meter_id"],
            "timestamp": reading["event_ms"],
            "voltage": reading["voltage_v"],
            "current": reading["current_a"],
            "temperature": reading["temperature_c"],
            "status": reading["status"],
        },
        source={
            "topic": reading["kafka_topic"],
            "partition": reading["kafka_partition"],
            "offset": reading["kafka_offset"],
            "timestamp": reading["kafka_ms"],
        },
        source_item=reading["kafka_item"],
    )
