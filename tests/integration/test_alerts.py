"""The alerts against a real broker: milliseconds, and no anomaly lost, whatever happens to their members."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions
from kafka import KafkaAdminClient, TopicPartition

from pipelines.alerts import READY
from pipelines.alerts.group import Group, committed
from pipelines.identity.starting import settle_start
from pipelines.local.broker import RunningBroker
from pipelines.local.processes import Child, wait_until
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, as_arrow, create_tables
from pipelines.tables import AUDIT, READINGS
from pipelines.topics import topic_offsets
from tests.integration.alerting import Sender, delays_ms, expected_anomalies, sent_anomalies, write_reference_tables
from tests.integration.support import (
    Place,
    end_leftovers,
    explain,
    interrupt,
    records_of,
    stopped,
    text_of,
    wait_for,
    wait_for_end,
    wait_for_text,
    wait_until_reading,
)

pytestmark = pytest.mark.timeout(300)


def prepared(place: Place) -> Place:
    """Topics, tables and the noted start, as the first start of a pipeline leaves them."""
    here = place.with_settings(metrics__alerts_port=0)
    here.create_topics()
    create_tables(here.settings)
    write_reference_tables(here.settings, baselines=True)
    settle_start(here.settings, print)
    return here


def start_member(place: Place) -> Child:
    """Each life has a log of its own."""
    life = len(list(place.folder.glob("alerts-*.log"))) + 1
    return place.gridwatch(f"alerts-{life}", "alerts")


def ends(settings: Settings) -> dict[int, int]:
    return {p: end for p, (_, end) in topic_offsets(settings.kafka, settings.kafka.topics.readings).items()}


def has_found_all(settings: Settings) -> bool:
    return set(sent_anomalies(settings)) >= set(expected_anomalies(settings))


def held_by(member: Child) -> set[int]:
    """Partitions that a member holds, by what it has said."""
    held: set[int] = set()
    for what, listed in re.findall(r"partitions ([\d, ]+) (assigned to|given up by|lost by)", text_of(member.log)):
        parts = {int(part) for part in what.split(",")}
        held = held | parts if listed == "assigned to" else held - parts
    return held


@dataclass(frozen=True)
class Killed:
    """The settings, and what the first life had committed when it was killed."""

    settings: Settings
    committed: dict[int, int]
    first_output_s: float


@pytest.fixture(scope="module")
def killed(kafka: RunningBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """
    readings   |== 1200 ==|     300    |== 600 ==|
    member     start ---------x     start ------- SIGTERM
    """
    place = Place(tmp_path_factory.mktemp("alerts"), kafka.bootstrap_servers)
    try:
        here = prepared(place)
        settings, sender = here.settings, Sender(here.settings)
        with stopped(start_member(here)) as first:
            wait_for_text(first, READY, 60)
            sender.send(1200, rate=300)
            wait_for(first, "a commit", lambda: bool(committed(settings)), 30)
            sender.send(200, rate=2000)
            first.kill()
        done = committed(settings)
        sender.send(300)
        before, began = sum(map(len, sent_anomalies(settings).values())), time.monotonic()
        with stopped(start_member(here)) as second:
            wait_until(lambda: sum(map(len, sent_anomalies(settings).values())) > before, 60, poll_s=0.05)
            first_output_s = time.monotonic() - began
            wait_for_text(second, READY, 60)
            sender.send(600)
            wait_for(second, "all anomalies", lambda: has_found_all(settings), 60)
            assert second.stop(30) == 130, explain(second, "did not end in order")
        yield Killed(settings, done, first_output_s)
    finally:
        end_leftovers(place.mark)


def test_what_is_published_is_what_the_rules_find_in_the_whole_topic(killed: Killed) -> None:
    """Records that no parser takes are among them, the bounds keep most readings from the rules, and a member was
    killed amid them."""
    expected, sent = expected_anomalies(killed.settings), sent_anomalies(killed.settings)
    assert {one["anomalyType"] for one in expected.values()} == {
        "voltage_spike", "overvoltage", "interruption", "voltage_deviation", "implausible_value",
    }  # fmt: skip
    assert {name: events[0] for name, events in sent.items()} == expected


def test_repeats_are_the_same_events_and_of_records_that_were_not_committed(killed: Killed) -> None:
    repeated = [events for events in sent_anomalies(killed.settings).values() if len(events) > 1]
    assert all(event == events[0] for events in repeated for event in events)
    origins = [(events[0]["source"]["partition"], events[0]["source"]["offset"]) for events in repeated]
    assert all(offset >= killed.committed[partition] for partition, offset in origins)


def test_an_anomaly_comes_milliseconds_after_its_reading_and_a_restart_takes_over_at_once(killed: Killed) -> None:
    """Wide limits: other tests may run on the machine. The benchmark `steady` has the figures."""
    delays = delays_ms(killed.settings)
    assert delays[len(delays) // 4] < 100
    assert killed.first_output_s < 20, "well below the session timeout and a rebalance"


def test_at_its_end_everything_is_committed(killed: Killed) -> None:
    assert committed(killed.settings) == ends(killed.settings)


def test_members_share_partitions_and_new_ones_need_no_restart(place: Place) -> None:
    here = prepared(place)
    settings, sender = here.settings, Sender(here.settings)
    with stopped(start_member(here)) as one:
        wait_for_text(one, READY, 60)
        sender.send(400)
        with stopped(start_member(here)) as other:
            wait_for_text(other, READY, 60)
            wait_for(one, "a partition each", lambda: len(held_by(one)) == len(held_by(other)) == 1, 60)
            with Group(settings) as group:
                assert group.members() == 2
            sender.send(400)
            _grow(settings, 4)
            at = time.monotonic()
            wait_for(one, "four partitions held", lambda: len(held_by(one) | held_by(other)) == 4, 40)
            sender.send(400)
            wait_for(other, "all anomalies", lambda: has_found_all(settings), 40)
            assert time.monotonic() - at < 60
            other.kill()
        sender.send(200)
        wait_for(one, "all of the partitions, after the session timeout", lambda: len(held_by(one)) == 4, 60)
        wait_for(one, "all anomalies", lambda: has_found_all(settings), 40)
        assert {partition for partition, end in ends(settings).items() if end} == {0, 1, 2, 3}


def _grow(settings: Settings, partitions: int) -> None:
    topic = settings.kafka.topics.readings
    admin = AdminClient({"bootstrap.servers": settings.kafka.bootstrap_servers})
    admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(10)


def test_a_forgotten_group_goes_on_where_the_archive_noted_it_and_what_kafka_lost_comes_from_the_table(
    place: Place,
) -> None:
    """
    partition 0   judged until 20    Kafka begins at 60    the archive has all up to 80
    partition 1   judged until 30    Kafka has everything
    """
    here = prepared(place)
    settings, sender = here.settings, Sender(here.settings)
    for partition in (0, 1):
        sender.send(100, rate=5000, partition=partition)
    expected, held = expected_anomalies(settings), records_of(settings, settings.kafka.topics.readings)
    _archive(settings, held, judged={0: 20, 1: 30}, until=50)
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    admin.delete_records({TopicPartition(settings.kafka.topics.readings, 0): 60})
    admin.close()
    with stopped(start_member(here)) as member:
        wait_for_text(member, "partition 0: Kafka begins at offset 60 and 20 is next", 60)
        wait_for(member, "the other partition", lambda: committed(settings).get(1) == 100, 30)
        assert 0 not in committed(settings)
        _archive(settings, held, judged={0: None}, since=50, until=80)
        wait_for(member, "partition 0", lambda: committed(settings).get(0) == 100, 60)
        member.stop(30)
    due = {
        name: event
        for name, event in expected.items()
        if event["source"]["offset"] >= {0: 20, 1: 30}[event["source"]["partition"]]
    }
    assert {name: events[0] for name, events in sent_anomalies(settings).items()} == due


def _archive(settings: Settings, held: list[Any], judged: dict[int, int | None], *, until: int, since: int = 0) -> None:
    """Store records of the topic, from an offset of each partition up to another, as an archive batch does."""
    rows, batches = [], []
    for record in held:
        if record.partition not in judged or not since <= record.offset < until or not record.value.endswith(b"}"):
            continue
        value = json.loads(record.value)
        at = datetime.fromtimestamp(value["timestamp"] / 1000, UTC)
        reading = {
            "meter_id": value["meterId"], "event_ts": at, "voltage_v": value["voltage"], "current_a": value["current"],
            "temperature_c": value["temperature"], "status": value["status"], "is_plausible": True, "is_in_band": True,
            "is_late": False, "is_resent": False, "kafka_topic": record.topic, "kafka_partition": record.partition,
            "kafka_offset": record.offset, "kafka_ts": datetime.fromtimestamp(record.timestamp / 1000, UTC),
            "kafka_item": 0, "event_date": at.date(),
        }  # fmt: skip
        rows.append(tuple(reading.get(name) for name in READINGS.column_names))
    for partition, noted in judged.items():
        batch = {
            "generation": "g", "batch_id": 0, "kafka_topic": settings.kafka.topics.readings,
            "kafka_partition": partition, "first_offset": since, "last_offset": until - 1, "judged_until": noted,
        }  # fmt: skip
        batches.append(tuple(batch.get(name) for name in AUDIT.column_names))
    append_rows(as_arrow(rows, READINGS), settings, READINGS)
    append_rows(as_arrow(batches, AUDIT), settings, AUDIT)


def test_markers_of_transactions_leave_no_lag_and_aborted_records_raise_nothing(place: Place) -> None:
    here = prepared(place)
    settings = here.settings
    producer = Producer(
        {"bootstrap.servers": settings.kafka.bootstrap_servers, "transactional.id": "t-1", "log_level": 0}
    )
    producer.init_transactions(30)
    with stopped(start_member(here)) as member:
        wait_for_text(member, READY, 60)
        for number, voltage in enumerate((280.0, 390.0, 281.0)):
            producer.begin_transaction()
            for partition in (0, 1):
                reading = {
                    "meterId": f"m-{partition}", "timestamp": int(time.time() * 1000) + number, "voltage": voltage,
                    "current": 5.0, "temperature": 20.0,
                }  # fmt: skip
                producer.produce(settings.kafka.topics.readings, json.dumps(reading).encode(), partition=partition)
            if voltage == 390.0:
                producer.flush(10)
                producer.abort_transaction()
            else:
                producer.commit_transaction()
        wait_for(member, "no lag behind the last marker", lambda: committed(settings) == ends(settings), 30)
    observed = {event["observed"] for events in sent_anomalies(settings).values() for event in events}
    assert observed == {280.0, 281.0}


def test_the_pipeline_starts_a_member_starts_it_again_and_ends_in_order_when_it_gives_up(place: Place) -> None:
    here = place.with_settings(alerts__max_restarts=1, metrics__alerts_port=0, metrics__port=0)
    here.create_topics()
    with stopped(here.gridwatch("pipeline", "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for_text(pipeline, READY, 60)
        first = _alerts_of(pipeline)[-1]
        Sender(here.settings).send(100)
        wait_for(pipeline, "anomalies", lambda: has_found_all(here.settings), 60)
        os.kill(first, signal.SIGKILL)
        wait_for_text(pipeline, "restart 1 of 1", 30)
        wait_for(pipeline, "another process", lambda: len(_alerts_of(pipeline)) == 2, 30)
        Sender(here.settings).send(100)
        wait_for(pipeline, "anomalies again", lambda: has_found_all(here.settings), 60)
        os.kill(_alerts_of(pipeline)[-1], signal.SIGKILL)
        said = wait_for_end(pipeline, 90, code=4)
    assert "the alerts have given up" in said
    assert "ended between two batches" in said


def test_the_pipeline_ends_its_member_with_itself(place: Place) -> None:
    here = place.with_settings(metrics__alerts_port=0, metrics__port=0)
    here.create_topics()
    with stopped(here.gridwatch("pipeline", "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for_text(pipeline, READY, 60)
        member = _alerts_of(pipeline)[-1]
        interrupt(pipeline, signal.SIGTERM)
        wait_for_end(pipeline, 60, code=130)
        with pytest.raises(ProcessLookupError):
            os.kill(member, 0)
    assert committed(here.settings) == ends(here.settings)


def _alerts_of(pipeline: Child) -> list[int]:
    """Process ids of the members that a pipeline has started."""
    return [int(pid) for pid in re.findall(r"alerts run as process (\d+)", text_of(pipeline.log))]
