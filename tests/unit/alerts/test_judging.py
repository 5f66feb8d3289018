"""The bounds keep most readings from the rules, and change nothing about what is found."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from pipelines.alerts.judging import Judging, JudgingFailed
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Detection
from pipelines.settings_load import load_settings

SETTINGS = load_settings(environment={}).settings
NOW_MS = int(time.time() * 1000)
METERS = pl.DataFrame(
    {"meter_id": ["m-0", "m-1"], "feeder_id": ["f", None], "transformer_id": [None] * 2, "phase": ["A", None],
     "nominal_voltage_v": [230.0, 400.0], "rated_current_a": [40.0, None], "region": [None] * 2,
     "meter_class": [None] * 2},
    schema_overrides={"transformer_id": pl.String, "region": pl.String, "meter_class": pl.String},
)  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """A record as the client returns it."""

    number: int
    document: bytes | None

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return self.number

    def value(self) -> bytes | None:
        return self.document

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW_MS


def reading(number: int, **values: Any) -> Sent:
    normal = {"meterId": "m-0", "timestamp": NOW_MS + number, "voltage": 230.0, "current": 1.0, "temperature": 20.0}
    return Sent(number, json.dumps(normal | values).encode())


def judge(detection: Detection = SETTINGS.detection) -> ReadingJudge:
    return ReadingJudge(detection, METERS, None)


def test_only_what_is_odd_is_found_with_its_coordinates_and_in_order() -> None:
    records = [
        reading(0), reading(1, voltage=280.0), Sent(2, b"{"), Sent(3, None), reading(4, meterId="m-1", voltage=400.0),
        reading(5, status="hardware failure"), reading(6, current=50.0), reading(7, meterId="nobody", voltage=9.0),
    ]  # fmt: skip
    found = Judging(SETTINGS).events(records, judge())
    assert [(event["source"]["offset"], event["anomalyType"]) for event in found] == [
        (1, "voltage_spike"), (1, "overvoltage"), (5, "equipment_failure"), (6, "overcurrent"), (7, "interruption"),
    ]  # fmt: skip
    assert found[0]["source"] == {"topic": "sensor-readings", "partition": 1, "offset": 1, "timestamp": NOW_MS}
    assert found[0]["detectedAt"] is None


def test_records_without_a_reading_raise_nothing() -> None:
    assert Judging(SETTINGS).events([Sent(0, b""), Sent(1, b"[]"), Sent(2, b"\xff")], judge()) == []


def test_a_mistake_of_ours_names_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = judge()
    monkeypatch.setattr(ReadingJudge, "events", lambda self, frame: 1 // 0)
    with pytest.raises(JudgingFailed, match=r"1:4 to 1:9 .*ZeroDivisionError"):
        Judging(SETTINGS).events([reading(4, voltage=280.0), reading(9)], broken)
