"""Records of the topics as the incidents read them, and incidents as they are sent."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import msgspec
import pytest

from pipelines.anomalies.events import anomaly_record
from pipelines.contract import message
from pipelines.incidents.messages import anomaly_row, incident_records, tick_of, tombstones
from pipelines.incidents.rows import epoch_ms
from pipelines.incidents.sessions import sessionise
from pipelines.incidents.tables import as_table
from pipelines.settings import Incidents
from tests.factories import NOON_MS, utc
from tests.factories import anomaly_row as stored_anomaly
from tests.reading_factories import judged

PLACE = {"partition": 2, "offset": 9}


def read(value: bytes | None) -> dict[str, Any] | None:
    return anomaly_row(value, **PLACE, kafka_ms=NOON_MS)


def test_an_anomaly_that_is_read_equals_the_sent_one() -> None:
    rows = [{"voltage_v": 280.0, "status": '"}{\n'}, {"status": "Failure", "meter_id": "unknown"}]
    sent = judged(rows, known=[{}])
    assert len(sent) == 4
    for event in sent:
        row = read(anomaly_record(event, detected_ms=7)[1])
        assert row is not None
        for field in message("anomaly_event").fields:
            value = row[field.column]
            assert (epoch_ms(value) if field.type == "epoch_ms" and value else value) == (event | {"detectedAt": 7})[
                field.name
            ], field.name
        assert (row["kafka_partition"], row["kafka_offset"], row["kafka_ts"]) == (2, 9, utc(0))
        assert as_table([row]).to_pylist() == [row]


LEAST = {"anomalyId": "a", "anomalyType": "t", "severity": "INFO", "eventTime": 5, "meterId": "m"}


def test_the_least_that_makes_an_anomaly_is_taken_and_unknown_fields_are_passed_over() -> None:
    row = read(json.dumps(LEAST | {"colour": [1], "score": 1}).encode())
    assert row is not None
    assert (row["anomaly_id"], row["score"], row["source"]) == ("a", 1.0, None)


@pytest.mark.parametrize(
    "value",
    [b"", b"{}", b"no json", b"[1]", None, b"\xff", *(json.dumps(LEAST | change).encode() for change in (
        {"eventTime": None}, {"eventTime": 10**30}, {"eventTime": 10**17}, {"severity": "LOUD"}, {"meterId": None},
        {"score": "high"}, {"anomalyId": 5}, {"source": {"offset": 2**70}},
    ))],
)  # fmt: skip
def test_a_record_that_is_no_anomaly_is_none(value: bytes | None) -> None:
    assert read(value) is None


def test_a_tick_has_its_window_end_and_perhaps_how_far_the_archive_was() -> None:
    assert tick_of(b'{"windowEnd":%d}' % NOON_MS, **PLACE) == tick(None)
    assert tick_of(b'{"windowEnd":%d,"archived":{"0":5,"12":7},"x":1}' % NOON_MS, **PLACE) == tick({0: 5, 12: 7})


def tick(archived: dict[int, int] | None) -> Any:
    from pipelines.incidents.ticks import Tick

    return Tick(utc(0), 2, 9, archived)


@pytest.mark.parametrize(
    "value", [b"", None, b"{}", b'{"windowEnd":null}', b'{"windowEnd":"noon"}', b'{"windowEnd":5,"archived":{"a":1}}']
)
def test_a_record_that_is_no_tick_is_none(value: bytes | None) -> None:
    assert tick_of(value, **PLACE) is None


def test_an_incident_is_sent_field_by_field_in_the_order_of_the_contract() -> None:
    (row,) = sessionise([stored_anomaly({"t": 0, "anomaly_type": "undervoltage", "severity": "ERROR"})], clock=None,
                        settings=Incidents())  # fmt: skip
    ((key, value, headers),) = incident_records([row])
    document = msgspec.json.decode(value or b"")
    assert (key, headers) == (row["incident_id"].encode(), [])
    assert list(document) == [field.name for field in message("incident").fields]
    for field in message("incident").fields:
        expected = row[field.column]
        assert document[field.name] == (epoch_ms(expected) if isinstance(expected, datetime) else expected)


def test_a_tombstone_is_a_key_without_a_value() -> None:
    assert list(tombstones(["a"])) == [(b"a", None, [])]
