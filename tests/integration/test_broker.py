"""The embedded broker is a real Kafka: data survive a crash, and nothing runs on after it was stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic
from kafka.errors import KafkaError, MessageSizeTooLargeError

from pipelines.errors import InfrastructureUnavailable
from pipelines.local.broker import RunningBroker, start_broker, start_detached_broker, stop_detached_broker
from pipelines.local.ports import is_open
from pipelines.local.state import birth

# The controller waits this long before it lets a killed broker come back.
QUICK_SESSION = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with start_broker(tmp_path_factory.mktemp("broker"), extra=QUICK_SESSION) as running:
        yield running


def create_topic(broker: RunningBroker, name: str) -> None:
    client = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    client.create_topics([NewTopic(name, num_partitions=2, replication_factor=1)])
    client.close()


def produce(broker: RunningBroker, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, acks="all", enable_idempotence=True)
    for sent in [producer.send(topic, value) for value in values]:
        sent.get(timeout=20)
    producer.close()


def consume(broker: RunningBroker, topic: str, count: int) -> set[bytes]:
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=broker.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    seen: set[bytes] = set()
    for record in consumer:
        seen.add(record.value)
        if len(seen) == count:
            break
    consumer.close()
    return seen


def test_records_are_read_back_after_a_crash_and_a_restart_at_the_same_address(broker: RunningBroker) -> None:
    create_topic(broker, "kept")
    values = [b"reading-%d" % number for number in range(100)]
    produce(broker, "kept", values)
    address, pid = broker.bootstrap_servers, broker.pid
    broker.kill()
    assert not broker.is_running()
    broker.restart()
    assert broker.bootstrap_servers == address
    assert broker.pid != pid
    assert consume(broker, "kept", 100) == set(values)


def test_a_stopped_broker_can_be_started_again(broker: RunningBroker) -> None:
    broker.stop()
    assert not is_open(broker.port)
    assert birth(broker.pid) is None
    broker.restart(down_s=0.2)
    assert broker.answers()


def test_a_message_above_one_mebibyte_is_refused(broker: RunningBroker) -> None:
    create_topic(broker, "limit")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, max_request_size=20_000_000)
    with pytest.raises(MessageSizeTooLargeError):
        producer.send("limit", b"x" * 2_000_000).get(timeout=20)
    producer.close()


def test_topics_are_not_created_by_a_typing_error(broker: RunningBroker) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers, max_block_ms=1500)
    with pytest.raises(KafkaError):
        producer.send("sensor-raedings", b"x").get(timeout=5)
    producer.close()


def test_kafka_writes_its_own_log(broker: RunningBroker) -> None:
    """Kafka's jars alone bring no logging binding."""
    assert "WARN" in broker.log.read_text()


def test_a_broker_that_cannot_start_says_why_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureUnavailable, match=r"ended at its start: .*num\.io\.threads") as refused:
        start_broker(tmp_path, extra={"num.io.threads": "none"})
    assert "\n" not in str(refused.value)


def test_a_detached_broker_is_found_and_stopped_by_its_folder(tmp_path: Path) -> None:
    broker = start_detached_broker(tmp_path)
    assert stop_detached_broker(tmp_path)
    assert not is_open(broker.port)
    assert not stop_detached_broker(tmp_path)
    broker.stop()
