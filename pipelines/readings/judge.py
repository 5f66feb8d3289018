"""From accepted readings to AnomalyEvents of stage reading."""

from __future__ import annotations

from typing import Any

import polars as pl

from pipelines.anomalies.events import Event, Subject, anomaly_event, original_event, source_of
from pipelines.readings.bounds import Bounds
from pipelines.readings.meters import known_meters, placed_meters
from pipelines.readings.rules import ReadingRules
from pipelines.settings import Detection

_NEEDED = (
    "meter_id", "feeder_id", "baseline", "event_ms", "voltage_v", "current_a", "temperature_c", "status",
    "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ms", "kafka_item",
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
    odd = sorted({finding.row for finding in findings})
    subjects = {row: _subject(*values) for row, values in zip(odd, marked[odd].select(_NEEDED).rows(), strict=True)}
    return [anomaly_event("reading", finding, subjects[finding.row]) for finding in findings]


def _subject(
    meter_id: str,
    feeder_id: str | None,
    baseline: dict[str, Any] | None,
    event_ms: int,
    voltage_v: float,
    current_a: float | None,
    temperature_c: float | None,
    status: str | None,
    kafka_topic: str | None,
    kafka_partition: int | None,
    kafka_offset: int | None,
    kafka_ms: int | None,
    kafka_item: int | None,
) -> Subject:
    """One row of the columns _NEEDED."""
    original = original_event(meter_id, event_ms, voltage_v, current_a, temperature_c, status)
    source = source_of(kafka_topic, kafka_partition, kafka_offset, kafka_ms)
    return Subject(meter_id, feeder_id, event_ms, baseline, original, source, kafka_item)
