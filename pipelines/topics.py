"""The Kafka topics: created as the contract says, checked before a job trusts their clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from pipelines.errors import DataRefused, InfrastructureUnavailable, SettingsError
from pipelines.kafka_refusals import RefusedCredentials
from pipelines.kafka_tls import tls_problem
from pipelines.settings import Kafka, Settings

Say = Callable[[str], None]

_LOOK_LIMIT_S = 10.0
_NO_SUCH_TOPIC = 3
_ADVICE = "; `gridwatch check` looks at the rights (conf/security/kafka-acls.toml)"
_APPEND_TIME = {"message.timestamp.type": "LogAppendTime"}


def client_options(kafka: Kafka) -> dict[str, Any]:
    """Connection options of kafka-python's clients."""
    options: dict[str, Any] = {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": kafka.security_protocol,
    }
    if kafka.sasl_password:
        options["sasl_mechanism"] = kafka.sasl_mechanism
        options["sasl_plain_username"] = kafka.sasl_username
        options["sasl_plain_password"] = kafka.sasl_password.get_secret_value()
    if kafka.ssl_cafile:
        options["ssl_cafile"] = kafka.ssl_cafile
    return options


def wait_for_kafka(kafka: Kafka, say: Say) -> None:
    """Return when a broker answers; retries with growing pauses for `kafka.connect_timeout`.

    Raises InfrastructureUnavailable after that, and at once when the credentials are refused or the brokers'
    certificate is not trusted: waiting changes neither.
    """
    deadline, pause = time.monotonic() + kafka.connect_timeout, 0.5
    while True:
        try:
            with RefusedCredentials() as refused:
                KafkaAdminClient(**client_options(kafka), bootstrap_timeout_ms=2000).close()
            return
        except (KafkaError, OSError, ValueError) as error:
            if refused.seen:
                raise InfrastructureUnavailable(
                    f"kafka.bootstrap_servers = {kafka.bootstrap_servers}: the broker refuses user"
                    f" {kafka.sasl_username}; look at kafka.sasl_username, kafka.sasl_mechanism and"
                    " GRIDWATCH_KAFKA__SASL_PASSWORD"
                ) from None
            if problem := tls_problem(kafka):
                raise InfrastructureUnavailable(
                    f"kafka.bootstrap_servers = {kafka.bootstrap_servers}: {problem}; set kafka.ssl_cafile to the"
                    " authority that signed it"
                ) from None
            left = deadline - time.monotonic()
            if left <= 0:
                raise InfrastructureUnavailable(
                    f"kafka.bootstrap_servers = {kafka.bootstrap_servers}: no broker answers within"
                    f" {kafka.connect_timeout:g} s ({type(error).__name__}); start it, or set"
                    " GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS"
                ) from None
            say(f"waiting for Kafka at {kafka.bootstrap_servers} ({left:.0f} s left)")
            time.sleep(min(pause, max(left, 0)))
            pause = min(pause * 2, 8)


def create_topics(settings: Settings) -> list[str]:
    """Create the topics that are not there; returns their names. Existing ones are left as they are."""
    kafka, topics = settings.kafka, settings.kafka.topics
    keep = {"retention.ms": str(int(kafka.retention * 1000))}
    wanted = {
        topics.readings: (kafka.partitions, _APPEND_TIME | keep),
        topics.anomalies: (kafka.partitions, _APPEND_TIME | keep),
        topics.ticks: (1, _APPEND_TIME | keep),
        topics.incidents: (1, {"cleanup.policy": "compact"}),
        topics.dead_letters: (1, keep),
        # The table must see an action before a later one replaces it.
        topics.actions: (1, {"cleanup.policy": "compact", "min.compaction.lag.ms": keep["retention.ms"]}),
    }
    admin = KafkaAdminClient(**client_options(kafka))
    try:
        missing = {name: spec for name, spec in wanted.items() if name not in admin.list_topics()}
        if missing:
            admin.create_topics(
                {
                    name: {
                        "num_partitions": count,
                        "replication_factor": kafka.replication_factor,
                        "configs": configs | {"min.insync.replicas": str(kafka.min_insync_replicas)},
                    }
                    for name, (count, configs) in missing.items()
                },
                wait_for_metadata=True,
            )
    except TopicAlreadyExistsError:
        pass
    except KafkaError as error:
        raise SettingsError(f"topics could not be created at {kafka.bootstrap_servers}: {error}") from None
    finally:
        admin.close()
    return list(missing)


def check_topics(settings: Settings) -> None:
    """Raises SettingsError when a topic is missing, DataRefused when the readings' broker clock cannot be trusted."""
    kafka, topics = settings.kafka, settings.kafka.topics
    with _asked(kafka, "topics"), closing(KafkaAdminClient(**client_options(kafka))) as admin:
        there = set(admin.list_topics())
        absent = [name for name in topics.model_dump().values() if name not in there]
        if absent:
            raise SettingsError(
                f"topic {absent[0]} does not exist at {kafka.bootstrap_servers}; `gridwatch topics create` makes it"
            )
        resource = ConfigResource(ConfigResourceType.TOPIC, topics.readings)
        configs = admin.describe_configs([resource], config_filter="all")
    kind = _config_value(configs, topics.readings, "message.timestamp.type")
    if kind != "LogAppendTime" and not settings.input.trust_create_time:
        raise DataRefused(
            f"topic {topics.readings} has message.timestamp.type = {kind}: a producer's clock would guard itself; set"
            " LogAppendTime on the topic, or input.trust_create_time = true to accept it"
        )


def _config_value(configs: Any, topic: str, key: str) -> str | None:
    for by_name in configs.values():
        if topic in by_name:
            found = by_name[topic].get(key)
            return found.get("value") if isinstance(found, dict) else found
    return None


def topic_ids(kafka: Kafka, names: Iterable[str]) -> dict[str, str]:
    """Kafka's id of each topic: a topic that was deleted and made again has another one. SettingsError without one."""
    with _asked(kafka, "topics"), closing(KafkaAdminClient(**client_options(kafka))) as admin:
        described = admin.describe_topics(sorted(set(names)))
    for topic in described:
        if topic["error_code"] == _NO_SUCH_TOPIC:
            raise SettingsError(f"topic {topic['name']} does not exist; `gridwatch topics create` makes it")
        if topic["error_code"]:
            why = for_code(topic["error_code"]).__name__
            raise InfrastructureUnavailable(f"topic {topic['name']} at {kafka.bootstrap_servers}: {why}{_ADVICE}")
    return {topic["name"]: str(topic["topic_id"]) for topic in described}


def topic_offsets(kafka: Kafka, topic: str) -> dict[int, tuple[int, int]]:
    """First available and next offset of every partition of a topic."""
    options = client_options(kafka)
    with _asked(kafka, f"offsets of {topic}"), closing(KafkaConsumer(**options, enable_auto_commit=False)) as consumer:
        partitions = [TopicPartition(topic, p) for p in _partitions(consumer, topic)]
        first, end = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
        return {p.partition: (first[p], end[p]) for p in partitions}


def offsets_at(kafka: Kafka, topic: str, at_ms: int) -> dict[int, int]:
    """First offset of each partition with a broker time (epoch ms) at or after a moment; none where there is none."""
    options = client_options(kafka)
    with _asked(kafka, f"offsets of {topic}"), closing(KafkaConsumer(**options, enable_auto_commit=False)) as consumer:
        asked = {TopicPartition(topic, p): at_ms for p in _partitions(consumer, topic)}
        found = consumer.offsets_for_times(asked)
        return {place.partition: one.offset for place, one in found.items() if one is not None}


def holds_record(kafka: Kafka, topic: str, partition: int, since: int, until: int) -> bool:
    """Whether Kafka has a record with an offset from `since` up to, without, `until`: not only a transaction's marker.

    True too when nobody can say within some seconds.
    """
    options = client_options(kafka) | {"enable_auto_commit": False, "auto_offset_reset": "earliest"}
    with _asked(kafka, f"records of {topic}"), closing(KafkaConsumer(**options)) as consumer:
        place = TopicPartition(topic, partition)
        consumer.assign([place])
        consumer.seek(place, since)
        deadline = time.monotonic() + _LOOK_LIMIT_S
        while time.monotonic() < deadline:
            polled = consumer.poll(timeout_ms=500, max_records=1)
            for record in (record for records in polled.values() for record in records):
                return bool(record.offset < until)
            if consumer.position(place) >= until:
                return False
        return True


@contextmanager
def _asked(kafka: Kafka, what: str) -> Iterator[None]:
    """Errors of a client within, from its making on, as InfrastructureUnavailable."""
    try:
        yield
    except (KafkaError, OSError) as error:
        name = type(error).__name__
        advice = _ADVICE if name.endswith("AuthorizationFailedError") else ""
        raise InfrastructureUnavailable(f"{what} at {kafka.bootstrap_servers}: {name}: {error}{advice}") from None


def _partitions(consumer: Any, topic: str) -> Iterable[int]:
    found = consumer.partitions_for_topic(topic)
    if not found:
        raise SettingsError(f"topic {topic} does not exist; `gridwatch topics create` makes it")
    return sorted(found)
