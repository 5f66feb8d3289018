"""Topics of transactional producers: what holds no record is a gap, what does is a loss, and Kafka tells which."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from pipelines.broker.reread import records_in
from pipelines.local.broker import RunningBroker
from pipelines.reconcile.verify import verify
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables
from pipelines.tables import AUDIT, READINGS, Table
from pipelines.topics import topic_offsets
from tests.integration.support import Place

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
RECORDS = 20
"""In each transaction."""


@pytest.fixture
def place(kafka: RunningBroker, tmp_path: Path) -> Iterator[Place]:
    """One partition with four transactions: committed, aborted, committed, committed.

    offset   0-19  20      21-40    41      42-61  62      63-82  83
             read  marker  aborted  marker  read   marker  read   marker
    """
    here = Place(tmp_path, kafka.bootstrap_servers).with_settings(kafka__partitions=1)
    here.create_topics()
    for number, is_committed in enumerate((True, False, True, True)):
        send_transaction(here, number, is_committed=is_committed)
    create_tables(here.settings)
    return here


def send_transaction(place: Place, number: int, *, is_committed: bool) -> None:
    options = {"bootstrap.servers": place.bootstrap_servers, "transactional.id": f"{place.mark}-{number}"}
    producer: Any = Producer(options)
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(RECORDS):
        producer.produce(place.settings.kafka.topics.readings, value=b"{}", partition=0)
    producer.flush(30)
    if is_committed:
        producer.commit_transaction(30)
    else:
        producer.abort_transaction(30)


def store(settings: Settings, *, without: frozenset[int] = frozenset()) -> None:
    """Two batches as the archive writes them; it may have taken some records for gaps."""
    kept = [offset for offset in (*range(20), *range(42, 62), *range(63, 83)) if offset not in without]
    for number, (first, last) in enumerate(((0, 49), (50, 83))):
        offsets = [offset for offset in kept if first <= offset <= last]
        batch = BatchId("g", "archive", number)
        add(settings, READINGS, [reading(settings, offset) for offset in offsets], batch)
        figures = {"records_in": len(offsets), "accepted": len(offsets), "gaps": last - first + 1 - len(offsets)}
        span = {"first_offset": first, "last_offset": last, "rejected": 0, "late": 0, "resent": 0}
        ids = {"generation": "g", "batch_id": number, "kafka_topic": settings.kafka.topics.readings}
        add(settings, AUDIT, [{**ids, "kafka_partition": 0, **span, **figures}], batch)


def add(settings: Settings, table: Table, rows: list[dict[str, Any]], batch: BatchId) -> None:
    tuples = [tuple(row.get(name) for name in table.column_names) for row in rows]
    append_rows_once(as_arrow(tuples, table), settings, table, batch)


def reading(settings: Settings, offset: int) -> dict[str, Any]:
    return {
        "meter_id": "m", "event_ts": AT, "event_date": AT.date(), "is_late": False, "is_resent": False,
        "kafka_topic": settings.kafka.topics.readings, "kafka_partition": 0, "kafka_offset": offset, "kafka_item": 0,
    }  # fmt: skip


def test_markers_and_aborted_records_are_gaps_and_nothing_is_lost(place: Place) -> None:
    assert topic_offsets(place.settings.kafka, place.settings.kafka.topics.readings) == {0: (0, 84)}
    store(place.settings)
    report = verify(place.settings)
    assert report.ok, report.verdict
    assert (report.archived, report.lost, report.lag) == (3 * RECORDS, 0, 0)
    assert (report.gaps, report.markers, report.aborted) == (4 + RECORDS, 4, RECORDS)


def test_a_committed_record_that_audit_took_for_a_gap_is_lost(place: Place) -> None:
    store(place.settings, without=frozenset({7, 61}))
    report = verify(place.settings)
    assert not report.ok
    assert (report.lost, report.markers, report.aborted) == (2, 4, RECORDS)
    assert [str(lost) for lost in report.partitions[0].lost_ranges] == ["7", "61"]


def test_records_of_an_open_transaction_are_no_lag(place: Place) -> None:
    store(place.settings)
    producer: Any = Producer({"bootstrap.servers": place.bootstrap_servers, "transactional.id": f"{place.mark}-open"})
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(place.settings.kafka.topics.readings, value=b"{}", partition=0)
    producer.flush(30)
    report = verify(place.settings)
    assert report.ok, report.verdict
    assert (report.partitions[0].broker_end, report.partitions[0].readable_end, report.lag) == (85, 84, 0)
    producer.commit_transaction(30)
    assert verify(place.settings).lag == 2, "the record and its marker"


def test_in_a_compacted_topic_a_missing_offset_is_a_loss(place: Place) -> None:
    topic = place.settings.kafka.topics.readings
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"cleanup.policy": "compact,delete"})])
    admin.close()
    store(place.settings)
    report = verify(place.settings)
    assert report.lost == 4 + RECORDS
    assert "set cleanup.policy=delete" in report.verdict


def test_ranges_are_read_to_their_ends_and_no_further(place: Place) -> None:
    def found(ranges: list[tuple[int, int]], *, committed: bool) -> list[int]:
        topic = place.settings.kafka.topics.readings
        return list(records_in(place.settings.kafka, topic, 0, ranges, committed=committed))

    assert found([(0, 0), (19, 22), (60, 63), (83, 83)], committed=True) == [0, 19, 60, 61, 63]
    assert found([(0, 0), (19, 22), (60, 63), (83, 83)], committed=False) == [0, 19, 21, 22, 60, 61, 63]
    assert found([(20, 41)], committed=True) == []
    assert found([(83, 83)], committed=True) == []
    assert found([], committed=True) == []
