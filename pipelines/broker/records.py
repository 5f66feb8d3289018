"""Records to Kafka and from it by librdkafka, where milliseconds or many records count."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from pipelines.errors import GridwatchError, InfrastructureUnavailable, RecordRefused
from pipelines.settings import Kafka
from pipelines.write_times import timed

Headers = list[tuple[str, bytes]]
Record = tuple[bytes | None, bytes | None, Headers]
"""Key, value and headers."""

_FLUSH_S = 120.0
_MOST_WAITING_KB = 64 << 10
"""So much waits in the client at most; the producer of the records is held up beyond it."""
_RECORD_IS_REFUSED = (
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_MSG,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.POLICY_VIOLATION,
)


def librdkafka_options(kafka: Kafka) -> dict[str, Any]:
    """Connection options of librdkafka's clients; hold the password in clear."""
    options: dict[str, Any] = {
        "bootstrap.servers": kafka.bootstrap_servers,
        "security.protocol": kafka.security_protocol,
    }
    if kafka.sasl_password:
        options["sasl.mechanism"] = kafka.sasl_mechanism
        options["sasl.username"] = kafka.sasl_username
        options["sasl.password"] = kafka.sasl_password.get_secret_value()
    if kafka.ssl_cafile:
        options["ssl.ca.location"] = kafka.ssl_cafile
    return options


def send_records(kafka: Kafka, topic: str, records: Iterable[Record]) -> int:
    """Send records and wait until Kafka has all of them; returns how many. At least once.

    Raises RecordRefused or InfrastructureUnavailable for the first record that Kafka did not take.
    """
    options = {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 20,
        "queue.buffering.max.kbytes": _MOST_WAITING_KB,
    }
    producer = Producer(librdkafka_options(kafka) | options)
    failed: list[KafkaError] = []

    def acknowledged(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failed.append(error)

    count = 0
    with timed("kafka", topic):
        for key, value, headers in records:
            _produce(producer, topic, key=key, value=value, headers=headers, on_delivery=acknowledged)
            count += 1
            if failed:
                break
        left = producer.flush(_FLUSH_S)
    where = f"topic {topic} at {kafka.bootstrap_servers}"
    if failed:
        raise _not_taken(failed[0], where)
    if left:
        raise InfrastructureUnavailable(f"{where}: {left} records are not acknowledged within {_FLUSH_S:g} s")
    return count


def _produce(producer: Any, topic: str, **record: Any) -> None:
    """Hand over one record; where the client's queue is full, wait for room."""
    while True:
        try:
            producer.produce(topic, **record)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.5)
        except KafkaException as error:
            raise _not_taken(error.args[0], f"topic {topic}") from None


def _not_taken(error: KafkaError, where: str) -> GridwatchError:
    kind = RecordRefused if error.code() in _RECORD_IS_REFUSED else InfrastructureUnavailable
    return kind(f"{where}: {error.str()}")
