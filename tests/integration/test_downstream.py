"""Consumers of the topics: the examples against a real broker, and a pipeline that keeps the tables readable."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from deltalake import TableFeatures
from kafka import KafkaProducer

from examples.anomaly_consumer import AnomalyConsumer
from pipelines.contract import message
from pipelines.errors import DataRefused
from pipelines.jobs.pipeline import prepare
from pipelines.small_tables import create_tables, open_table
from pipelines.tables import INCIDENTS
from tests.integration.support import ROOT, Place

Send = Callable[..., None]


@pytest.fixture
def send(place: Place) -> Iterator[Send]:
    """Puts records into one of the place's topics, which are made first; (key, document), None for a tombstone."""
    place.create_topics()
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers, acks="all")

    def put(
        topic: str,
        records: Sequence[tuple[str, dict[str, Any] | None]],
        headers: Sequence[tuple[str, bytes]] = (),
    ) -> None:
        sent = [
            producer.send(topic, None if value is None else json.dumps(value).encode(), key.encode(), list(headers))
            for key, value in records
        ]
        for future in sent:
            future.get(timeout=20)

    yield put
    producer.close()


def anomalies(first: int, end: int, *, meters: int = 7) -> list[tuple[str, dict[str, Any]]]:
    """Anomalies by number, with every field of the contract, spread over the partitions by meter."""
    fields = dict.fromkeys(field.name for field in message("anomaly_event").fields)
    found = []
    for number in range(first, end):
        meter = f"meter-{number % meters}"
        found.append((meter, fields | {"anomalyId": f"id-{number}", "meterId": meter, "anomalyType": "voltage_spike"}))
    return found


def ids(first: int, end: int) -> list[str]:
    return [f"id-{number}" for number in range(first, end)]


def run(place: Place, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An example as a user runs it, to its end."""
    command = [sys.executable, str(ROOT / "examples" / script), "--bootstrap-servers", place.bootstrap_servers]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done


def printed(done: subprocess.CompletedProcess[str], field: str) -> list[Any]:
    return [json.loads(line)[field] for line in done.stdout.splitlines()]


def consumer(place: Place, handle: Callable[[dict[str, Any]], None], **options: Any) -> AnomalyConsumer:
    topic = place.settings.kafka.topics.anomalies
    return AnomalyConsumer(topic, "members", handle, bootstrap_servers=place.bootstrap_servers, **options)


def step_until(done: Callable[[], bool], *members: AnomalyConsumer) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, "not within 60 s"
        for member in members:
            member.step()


def test_the_example_prints_a_repeated_anomaly_once_also_across_its_restart(place: Place, send: Send) -> None:
    topic = place.settings.kafka.topics.anomalies
    options = ("--topic", topic, "--until-idle", "8")
    send(topic, [*anomalies(0, 60), *anomalies(20, 60), *anomalies(0, 80)])
    first = run(place, "anomaly_consumer.py", *options)
    assert sorted(printed(first, "anomalyId")) == sorted(ids(0, 80))
    assert "100 repeats passed over" in first.stderr
    send(topic, [*anomalies(0, 80), *anomalies(60, 90), *anomalies(60, 90)])
    second = run(place, "anomaly_consumer.py", *options)
    assert sorted(printed(second, "anomalyId")) == sorted(ids(80, 90))


def test_what_was_not_handled_to_the_end_comes_again_and_nothing_is_lost(place: Place, send: Send) -> None:
    """Batches of five: the first is committed, in the second the program dies at its second anomaly."""
    handled: list[str] = []

    def dies_at_the_seventh(event: dict[str, Any]) -> None:
        if len(handled) == 6:
            raise ConnectionError("the database is gone")
        handled.append(event["anomalyId"])

    send(place.settings.kafka.topics.anomalies, anomalies(0, 20, meters=1))
    broken = consumer(place, dies_at_the_seventh, max_poll_records=5)
    with pytest.raises(ConnectionError):
        step_until(lambda: False, broken)
    broken.close()
    assert handled == ids(0, 6)
    again: list[str] = []
    member = consumer(place, lambda event: again.append(event["anomalyId"]), max_poll_records=5)
    step_until(lambda: len(again) >= 15, member)
    member.close()
    assert again == ids(5, 20)


def test_the_memory_is_bounded_and_forgets_the_oldest(place: Place, send: Send) -> None:
    handled: list[str] = []
    member = consumer(place, lambda event: handled.append(event["anomalyId"]), remember=3)
    send(place.settings.kafka.topics.anomalies, [*anomalies(0, 5, meters=1), *anomalies(3, 5, meters=1)])
    send(place.settings.kafka.topics.anomalies, [*anomalies(0, 1, meters=1)])
    step_until(lambda: len(handled) >= 6, member)
    assert handled == [*ids(0, 5), "id-0"]
    assert member.repeated == 2
    assert max(map(len, member.memory.values())) == 3
    member.close()


def test_what_a_recompute_sends_again_is_handled_though_its_id_is_known(place: Place, send: Send) -> None:
    topic = place.settings.kafka.topics.anomalies
    handled: list[str] = []
    member = consumer(place, lambda event: handled.append(event["anomalyId"]))
    send(topic, [*anomalies(0, 3, meters=1), *anomalies(1, 2, meters=1)])
    send(topic, anomalies(1, 2, meters=1), [("anomaly-id", b"id-1"), ("recomputed", b"true")])
    step_until(lambda: len(handled) >= 4, member)
    member.close()
    assert handled == [*ids(0, 3), "id-1"]
    assert member.repeated == 1


def test_a_partition_that_changes_hands_brings_no_repeats(place: Place, send: Send) -> None:
    topic = place.settings.kafka.topics.anomalies
    handled: list[str] = []
    first = consumer(place, lambda event: handled.append(event["anomalyId"]))
    send(topic, anomalies(0, 40))
    step_until(lambda: len(handled) >= 40, first)
    second = consumer(place, lambda event: handled.append(event["anomalyId"]))
    step_until(lambda: len(second.memory) > 0, first, second)
    send(topic, [*anomalies(0, 40), *anomalies(40, 60)])
    step_until(lambda: len(handled) >= 60 and first.repeated + second.repeated >= 40, first, second)
    assert second.repeated > 0
    first.close()
    second.close()
    assert sorted(handled) == sorted(ids(0, 60))


def test_a_record_that_is_no_anomaly_is_told_and_passed_over(place: Place, send: Send) -> None:
    topic = place.settings.kafka.topics.anomalies
    send(topic, [("meter-0", None), ("meter-0", {"anomalyType": "x"}), *anomalies(0, 1)])
    done = run(place, "anomaly_consumer.py", "--topic", topic, "--until-idle", "8")
    assert printed(done, "anomalyId") == ["id-0"]
    assert done.stderr.count("is no anomaly and is passed over") == 2


def test_the_state_of_the_incidents_is_what_the_feed_leaves(place: Place, send: Send) -> None:
    def said(name: str, **more: object) -> tuple[str, dict[str, Any]]:
        fields = dict.fromkeys(field.name for field in message("incident").fields)
        return name, fields | {"incidentId": name, "status": "open"} | more

    topic = place.settings.kafka.topics.incidents
    send(topic, [said("a"), said("b"), said("a", status="closed"), said("a", status="closed"), ("b", None), said("c")])
    done = run(place, "incident_state.py", "--topic", topic, "--once")
    found = {document["incidentId"]: document for document in map(json.loads, done.stdout.splitlines())}
    assert found == dict([said("a", status="closed"), said("c")])


def test_the_pipeline_does_not_start_on_a_table_that_a_reader_may_not_know(place: Place, send: Send) -> None:
    create_tables(place.settings)
    prepare(place.settings, lambda line: None)
    open_table(place.settings, INCIDENTS).alter.add_feature(
        TableFeatures.DeletionVectors, allow_protocol_versions_increase=True
    )
    with pytest.raises(DataRefused, match=r"table incidents of .* has deletionVectors"):
        prepare(place.settings, lambda line: None)
