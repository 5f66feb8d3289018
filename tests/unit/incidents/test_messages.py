"""Anomaly events as the query incidents reads them from Kafka."""

from __future__ import annotations

from datetime import UTC, datetime

from pyspark.sql import SparkSession

from pipelines.anomalies.events import anomaly_record
from pipelines.contract import message
from pipelines.settings import Settings
from pipelines.transforms.anomalies import decode_anomalies
from tests.factories import NOON, NOON_MS
from tests.reading_factories import judged

TICKS = Settings().kafka.topics.ticks
ACTIONS = "operator-actions"
RECORD = "value binary, topic string, partition int, offset long, timestamp timestamp"


def test_decoded_anomaly_equals_the_sent_one(spark: SparkSession) -> None:
    rows = [{"voltage_v": 280.0, "status": '"}{\n'}, {"status": "Failure", "meter_id": "unknown"}]
    sent = {event["anomalyId"]: event for event in judged(rows, known=[{}])}
    records = [(bytearray(anomaly_record(e, detected_ms=7)[1]), "anomalies", 2, 9, NOON) for e in sent.values()]
    decoded = decode_anomalies(spark.createDataFrame(records, RECORD), ticks=TICKS, actions=ACTIONS).collect()
    assert len(decoded) == len(sent) == 4
    for row in decoded:
        received, event = row.asDict(recursive=True), sent[row["anomaly_id"]] | {"detectedAt": 7}
        for field in message("anomaly_event").fields:
            value = received[field.column]
            assert (epoch_ms(value) if field.type == "epoch_ms" else value) == event[field.name], field.name
        assert (received["kafka_partition"], received["kafka_offset"], received["kafka_ts"]) == (2, 9, NOON)


def epoch_ms(moment: datetime) -> int:
    return round(moment.replace(tzinfo=UTC).timestamp() * 1000)


def test_record_that_is_no_anomaly_is_left_out(spark: SparkSession) -> None:
    values = [b"", b"{}", b"no json", b"[1]", b'{"anomalyId":"a","anomalyType":"t","severity":"INFO"}', None]
    rows = [
        (None if v is None else bytearray(v), topic, 0, i, NOON)
        for i, v in enumerate(values)
        for topic in ("anomalies", TICKS)
    ]
    assert decode_anomalies(spark.createDataFrame(rows, RECORD), ticks=TICKS, actions=ACTIONS).collect() == []


def test_window_ends_come_from_the_topic_of_ticks_only(spark: SparkSession) -> None:
    rows = [(bytearray(b'{"windowEnd":%d}' % NOON_MS), topic, 0, 1, NOON) for topic in ("anomalies", TICKS)]
    (row,) = decode_anomalies(spark.createDataFrame(rows, RECORD), ticks=TICKS, actions=ACTIONS).collect()
    assert (row["window_end"], row["anomaly_id"]) == (NOON, None)
