"""The pipeline under failures: it restarts a bounded number of times or refuses, each with its exit code."""

from __future__ import annotations

import shutil
import time
import urllib.request

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic
from prometheus_client.parser import text_string_to_metric_families

from pipelines.local.ports import free_port
from tests.integration.support import (
    Place,
    records_of,
    stopped,
    wait_for,
    wait_for_end,
    wait_for_text,
    wait_until_reading,
)

pytestmark = pytest.mark.timeout(600)


def send(place: Place, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers)
    for value in values:
        producer.send(place.settings.kafka.topics.readings, value, partition=0)
    producer.flush()
    producer.close()


def test_what_fails_again_and_again_ends_the_job_and_what_does_not_fit_ends_it_at_once(place: Place) -> None:
    """A dead-letter topic that takes no letter; then a table that vanishes under the running job."""
    letters = place.settings.kafka.topics.dead_letters
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.create_topics([NewTopic(letters, 1, 1, topic_configs={"max.message.bytes": "60"})])
    place = place.with_settings(pipeline__max_restarts=1)
    place.create_topics()
    send(place, b"no json")
    with stopped(place.gridwatch("first", "run")) as pipeline:
        said = wait_for_end(pipeline, 150, code=1)
    assert said.count("restart 1 of 1 in 1 s") == 1
    assert "Message size too large" in said.strip().splitlines()[-1]
    assert place.archived(), "the tables come first: only the letter is missing"

    admin.delete_topics([letters])
    time.sleep(2)
    admin.close()
    place.create_topics()
    with stopped(place.gridwatch("second", "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for(
            pipeline, "the letter of the batch that failed", lambda: len(records_of(place.settings, letters)) == 1, 60
        )
        shutil.rmtree(place.folder / "lake/rejected")
        send(place, b"no json either")
        said = wait_for_end(pipeline, 90, code=3)
    assert "table rejected of" in said.strip().splitlines()[-1]
    assert "is gone: restore the tables" in said.strip().splitlines()[-1]
    assert "restart 1" not in said


def test_the_metrics_outlive_restarts_and_a_batch_that_is_done_again_counts_once(place: Place) -> None:
    """The letter of the first record cannot be sent until the topic is made anew; its tables are written at once."""
    letters, port = place.settings.kafka.topics.dead_letters, free_port()
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.create_topics([NewTopic(letters, 1, 1, topic_configs={"max.message.bytes": "60"})])
    place = place.with_settings(pipeline__max_restarts=8, metrics__port=port)
    place.create_topics()
    send(place, b"no json")
    with stopped(place.gridwatch("pipeline", "run")) as pipeline:
        wait_for_text(pipeline, "; restart 3 of 8", 200)
        assert figure(port, "gridwatch_up") == 0
        admin.delete_topics([letters])
        admin.close()
        time.sleep(2)
        place.create_topics()
        wait_for(pipeline, "the letter", lambda: len(records_of(place.settings, letters)) == 1, 120)
        send(place, b"no json either")
        wait_for(pipeline, "the second record", place.archived, 60)
        wait_for(pipeline, "its figure", lambda: figure(port, "gridwatch_rejected_records_total") == 2, 30)
        assert figure(port, "gridwatch_up") == 1
        assert figure(port, "gridwatch_restarts_total", query="archive") >= 3
        assert figure(port, "gridwatch_restarts_total", query="windows") == 0
        wait_for(pipeline, "no lag", lambda: figure(port, "gridwatch_kafka_lag_records", query="archive") == 0, 30)


def figure(port: int, name: str, **labels: str) -> float:
    """Sum of the series with these labels, as the job serves them."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


def test_rejected_records_are_replayed_whole_and_once_and_come_back_parked(place: Place) -> None:
    """The second record is larger than a dead letter may be."""
    place.create_topics()
    large = b"{" + b"x" * 100_000
    send(place, b"no json", large)
    with stopped(place.gridwatch("pipeline", "run")) as pipeline:
        wait_until_reading(pipeline)
        wait_for(pipeline, "both rejected", place.archived, 60)
        command(place, "2 records would be sent", "replay", "--reason", "malformed_json", "--dry-run")
        command(place, "2 records sent to", "replay", "--reason", "malformed_json")
        command(place, "0 records would be sent", "replay", "--reason", "malformed_json")
        wait_for(pipeline, "both rejected again", lambda: len(place.ask("FROM rejected")) == 4, 60)
        wait_for_text(pipeline, "archive batch", 30)
        assert pipeline.stop(60) == 130
    command(place, "0 records would be sent", "replay", "--reason", "malformed_json")
    sent = records_of(place.settings, place.settings.kafka.topics.readings)
    assert [record.value for record in sent] == [b"no json", large] * 2
    assert [dict(record.headers).get("gridwatch-replay-of") for record in sent[2:]] == [
        f"{place.settings.kafka.topics.readings}:0:{offset}".encode() for offset in (0, 1)
    ]
    listed = command(place, "malformed_json", "list")
    assert listed.split()[-6:-1] == ["malformed_json", "0", "2", "0", "2"]
    report = place.verify()
    assert report.ok, report.verdict


def command(place: Place, expected: str, *arguments: str) -> str:
    with stopped(place.gridwatch(f"dlq-{time.monotonic_ns()}", "dlq", *arguments)) as child:
        said = wait_for_end(child, 60, code=0)
    assert expected in said
    return said
