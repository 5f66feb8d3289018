"""Readings with anomalies sent by hand, what the reading rules find in a whole topic, and what was published."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
from kafka import KafkaProducer

from pipelines.readings.decode import Decoder
from pipelines.readings.frames import readings_frame
from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Settings
from pipelines.small_tables import as_arrow, read_rows, replace_rows
from pipelines.tables import BASELINES, METERS
from tests.integration.support import records_of

METER_IDS = tuple(f"m-{number}" for number in range(20))
VOLTAGES = (230.0, 231.0, 280.0, 229.0, 12.0, 230.5, 242.0, 230.0, 400.0, 230.0)
"""Normal, spike and overvoltage, interruption, deviation (where a baseline is known), implausible."""


def write_reference_tables(settings: Settings, *, baselines: bool) -> None:
    """Meters, the last of them unknown, and a fresh baseline of 230 V for half of them."""
    meters = [(meter, "f-1", None, "L1", 230.0, 40.0) for meter in METER_IDS[:-1]]
    named = [dict(zip(("meter_id", "feeder_id", "transformer_id", "phase"), row, strict=False)) for row in meters]
    rows = [
        tuple({**row, "nominal_voltage_v": 230.0, "rated_current_a": 40.0}.get(name) for name in METERS.column_names)
        for row in named
    ]
    replace_rows(as_arrow(rows, METERS), settings, METERS)
    end = datetime.now(UTC) - timedelta(seconds=30)
    values = {"mean_v": 230.0, "std_v": 0.5, "n": 24, "window_end": end, "window_start": end - timedelta(seconds=300)}
    known = METER_IDS[: len(METER_IDS) // 2] if baselines else ()
    latest = [tuple({"meter_id": m, **values}.get(name) for name in BASELINES.column_names) for m in known]
    replace_rows(as_arrow(latest, BASELINES), settings, BASELINES)


class Sender:
    """Sends readings, each of another meter and moment than all before, and one in 25 that no parser takes."""

    def __init__(self, settings: Settings) -> None:
        self._topic = settings.kafka.topics.readings
        # A topic that grows gets readings in its new partitions soon.
        self._producer = KafkaProducer(
            bootstrap_servers=settings.kafka.bootstrap_servers, metadata_max_age_ms=1000, linger_ms=0
        )
        self._sent = 0
        self._since_ms = int(time.time() * 1000)

    def send(self, count: int, *, rate: float = 400.0, partition: int | None = None) -> None:
        """Send so many, evenly; returns when the broker has them."""
        started = time.monotonic()
        for done in range(count):
            time.sleep(max(0.0, started + done / rate - time.monotonic()))
            self._producer.send(self._topic, self._value(), key=self._meter().encode(), partition=partition)
            self._sent += 1
        self._producer.flush()

    def _meter(self) -> str:
        return METER_IDS[self._sent % len(METER_IDS)]

    def _value(self) -> bytes:
        if self._sent % 25 == 24:
            return b'{"meterId":"m-0","voltage":'
        voltage = VOLTAGES[(self._sent // len(METER_IDS) + self._sent) % len(VOLTAGES)]
        reading = {
            "meterId": self._meter(), "timestamp": self._since_ms - 20_000 + self._sent, "voltage": voltage,
            "current": 5.0, "temperature": 20.0, "status": "OK",
        }  # fmt: skip
        return json.dumps(reading).encode()


def expected_anomalies(settings: Settings) -> dict[str, dict[str, Any]]:
    """What the rules find in all readings of the topic, asked of each, by id, without the clock of the sending."""
    records = records_of(settings, settings.kafka.topics.readings)
    frame = readings_frame(
        Decoder(settings.input).decode([one.value for one in records], [one.timestamp for one in records])
    )
    origins = [records[row] for row in frame["row"]]
    tables = (pl.DataFrame(read_rows(settings, table)) for table in (METERS, BASELINES))
    events = ReadingJudge(settings.detection, *tables).events(
        frame.with_columns(
            pl.lit(settings.kafka.topics.readings).alias("kafka_topic"),
            pl.Series("kafka_partition", [one.partition for one in origins], pl.Int32),
            pl.Series("kafka_offset", [one.offset for one in origins], pl.Int64),
            pl.Series("kafka_ms", [one.timestamp for one in origins], pl.Int64),
        )
    )
    return {event["anomalyId"]: {n: v for n, v in event.items() if n != "detectedAt"} for event in events}


def sent_anomalies(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """What the topic anomalies holds, by id, in order, without the clock of the sending."""
    found = defaultdict(list)
    for record in records_of(settings, settings.kafka.topics.anomalies):
        event = json.loads(record.value)
        assert dict(record.headers)["anomaly-id"].decode() == event["anomalyId"]
        assert record.key.decode() == event["meterId"]
        found[event["anomalyId"]].append(_timeless(event))
    return dict(found)


def delays_ms(settings: Settings) -> list[int]:
    """From Kafka's append of each reading to that of its anomaly, ascending."""
    sent = records_of(settings, settings.kafka.topics.anomalies)
    return sorted(one.timestamp - json.loads(one.value)["source"]["timestamp"] for one in sent)


def _timeless(event: dict[str, Any]) -> dict[str, Any]:
    assert event["detectedAt"] >= event["source"]["timestamp"] - 1000
    return {name: value for name, value in event.items() if name != "detectedAt"}
