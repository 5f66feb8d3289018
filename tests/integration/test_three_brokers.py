"""Three real brokers, three replicas, two in sync: one may end, two may not; nothing acknowledged is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from pipelines.kafka_probe import topic_facts, topic_problems
from pipelines.local.broker_cluster import MIN_INSYNC, BrokerCluster, start_brokers
from pipelines.local.processes import wait_until
from pipelines.settings import Settings
from pipelines.topics import create_topics
from tests.integration.test_broker import QUICK_SESSION

RECORDS = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerCluster]:
    with start_brokers(tmp_path_factory.mktemp("brokers"), extra=QUICK_SESSION) as running:
        yield running


@pytest.fixture(scope="module")
def settings(cluster: BrokerCluster) -> Settings:
    kafka = {
        "bootstrap_servers": cluster.bootstrap_servers, "replication_factor": 3, "min_insync_replicas": MIN_INSYNC,
    }  # fmt: skip
    made = Settings.model_validate({"kafka": kafka})
    assert len(create_topics(made)) == 6
    return made


def whole(settings: Settings) -> bool:
    """Every partition has a leader, and all replicas are in sync."""
    return not list(topic_problems(topic_facts(settings), settings))


def produce(settings: Settings, label: str, *, timeout_s: int = 30) -> list[bytes]:
    """Send one by one, each once two brokers have the one before it; the values."""
    kafka, values = settings.kafka, [f"{label}-{number}".encode() for number in range(RECORDS)]
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, acks="all", enable_idempotence=True, linger_ms=0,
        delivery_timeout_ms=timeout_s * 1000, request_timeout_ms=2000,
    )  # fmt: skip
    try:
        for value in values:
            producer.send(kafka.topics.readings, value).get(timeout=timeout_s)
    finally:
        producer.close(timeout=1)
    return values


def read(settings: Settings) -> Counter[bytes]:
    """How often each value stands in the topic."""
    consumer = KafkaConsumer(
        settings.kafka.topics.readings,
        bootstrap_servers=settings.kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=5000,
    )
    try:
        return Counter(record.value for record in consumer)
    finally:
        consumer.close()


def test_topics_are_made_with_the_replicas_of_the_settings(settings: Settings) -> None:
    facts = topic_facts(settings)
    assert {one.replicas for one in facts} == {3}
    assert {one.configs["min.insync.replicas"] for one in facts} == {"2"}
    stricter = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"min_insync_replicas": 3})})
    assert any("kafka.min_insync_replicas = 3" in line for line in topic_problems(facts, stricter))


@pytest.mark.parametrize("node", [0, 1, 2])
def test_with_any_one_killed_records_are_still_taken_and_all_are_read(
    cluster: BrokerCluster, settings: Settings, node: int
) -> None:
    cluster.brokers[node].kill()
    sent = produce(settings, f"without-{node}")
    found = read(settings)
    assert [found[value] for value in sent] == [1] * RECORDS
    cluster.brokers[node].start()
    assert wait_until(lambda: whole(settings), 30)


def test_with_two_killed_nothing_is_acknowledged_until_one_is_back(cluster: BrokerCluster, settings: Settings) -> None:
    before = read(settings)
    for broker in cluster.brokers[:2]:
        broker.kill()
    with pytest.raises(KafkaError):
        produce(settings, "refused", timeout_s=6)
    for broker in cluster.brokers[:2]:
        broker.launch()
    for broker in cluster.brokers[:2]:
        broker.wait_ready()
    assert wait_until(lambda: whole(settings), 30)
    sent = produce(settings, "after")
    found = read(settings)
    assert [found[value] for value in sent] == [1] * RECORDS
    assert before <= found
