"""The consumer group of the alerts. Its committed offsets are the record of what was judged."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaException, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import GroupIdNotFoundError
from kafka.errors import KafkaError as AdminError

from pipelines.broker.records import librdkafka_options
from pipelines.errors import InfrastructureUnavailable
from pipelines.identity.tables import lake_id
from pipelines.settings import AUTO, Settings
from pipelines.topics import client_options

PREFIX = "gridwatch-alerts-"
"""Begins the name of a group that `alerts.group = auto` makes; rights may be given by it."""

_PATIENCE_S = 5.0
_QUIET = {"log_level": 0}
"""The library would print each lost connection by itself."""
_NOTHING = -1001
"""What Kafka says of a partition without a committed offset."""


def group_id(settings: Settings) -> str:
    """Name of the group: `alerts.group`, with auto one that belongs to the lake, whatever its generation.

    Raises deltalake's TableNotFoundError when the lake has no tables yet.
    """
    if settings.alerts.group != AUTO:
        return settings.alerts.group
    return f"{PREFIX}{lake_id(settings)}"


def committed(settings: Settings) -> dict[int, int]:
    """Next offset of each partition of the readings that the group has committed; other partitions are left out.

    Raises InfrastructureUnavailable when the brokers do not answer.
    """
    with Group(settings) as group:
        return group.committed()


class Group:
    """Questions to the brokers about the group, over one connection that is made at the first of them.

    Everything raises InfrastructureUnavailable when the brokers do not answer in time; the next question tries again.
    Several threads may ask.
    """

    def __init__(self, settings: Settings, *, patience_s: float = _PATIENCE_S) -> None:
        self._lock = threading.Lock()
        self._patience_s = patience_s
        self._kafka = settings.kafka
        self.topic = settings.kafka.topics.readings
        self.name = group_id(settings)
        self._consumer: Any = None

    def committed(self) -> dict[int, int]:
        """Next offset of each partition that has a committed one."""
        with self._asked() as consumer:
            partitions = partitions_of(consumer, self.topic, self._patience_s)
            asked = [TopicPartition(self.topic, partition) for partition in partitions]
            return committed_of(consumer.committed(asked, timeout=self._patience_s))

    def bounds(self, partition: int) -> tuple[int, int]:
        """First offset that Kafka has of a partition, and the next one."""
        with self._asked() as consumer:
            place = TopicPartition(self.topic, partition)
            found: tuple[int, int] = consumer.get_watermark_offsets(place, timeout=self._patience_s, cached=False)
            return found

    def members(self) -> int:
        """How many consumers the group has now; 0 for a group that Kafka does not know."""
        return len(self._members())

    def has_member(self, name: str) -> bool:
        """Whether the group has a static member of that name."""
        return any(member["group_instance_id"] == name for member in self._members())

    def unassigned(self) -> frozenset[int]:
        """Partitions of the readings that no member has; all of them for a group that Kafka does not know."""
        with self._asked() as consumer:
            there = partitions_of(consumer, self.topic, self._patience_s)
        held = {
            partition
            for member in self._members()
            if member["member_assignment"]
            for assigned in member["member_assignment"]["assigned_partitions"]
            if assigned["topic"] == self.topic
            for partition in assigned["partitions"]
        }
        return frozenset(there) - held

    def _members(self) -> list[dict[str, Any]]:
        """Asked by kafka-python: librdkafka's question ends the process when a broker dies meanwhile."""
        limit_ms = int(self._patience_s * 1000)
        limits = {"bootstrap_timeout_ms": limit_ms, "request_timeout_ms": limit_ms}
        try:
            with closing(KafkaAdminClient(**client_options(self._kafka), **limits)) as admin:
                found = admin.describe_groups([self.name])[self.name]
        except (AdminError, OSError, ValueError) as error:
            raise self._unreachable(str(error)) from None
        if found["error"] and GroupIdNotFoundError.__name__ not in found["error"]:
            raise self._unreachable(found["error"])
        return list(found["members"])

    def _unreachable(self, problem: str) -> InfrastructureUnavailable:
        return unreachable(self._kafka.bootstrap_servers, problem, f"group {self.name}")

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        with self._lock:
            try:
                if self._consumer is None:
                    options = {"group.id": self.name, "enable.auto.commit": False}
                    self._consumer = Consumer(librdkafka_options(self._kafka) | _QUIET | options)
                yield self._consumer
            except KafkaException as error:
                self._drop()
                raise self._unreachable(error.args[0].str()) from None

    def close(self) -> None:
        """Leave the brokers."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def partitions_of(consumer: Any, topic: str, patience_s: float) -> list[int]:
    """Partitions of a topic. Raises KafkaException when the brokers do not answer or do not know it."""
    found = consumer.list_topics(topic, timeout=patience_s).topics[topic]
    if found.error is not None:
        raise KafkaException(found.error)
    return sorted(found.partitions)


def committed_of(answer: list[TopicPartition]) -> dict[int, int]:
    """What Kafka's answer says, without the partitions of which it knows nothing.

    >>> committed_of([TopicPartition("t", 0, 7), TopicPartition("t", 1, -1001)])
    {0: 7}
    """
    for one in answer:
        if one.error is not None:
            raise KafkaException(one.error)
    return {one.partition: one.offset for one in answer if one.offset > _NOTHING and one.offset >= 0}


def unreachable(servers: str, problem: str, what: str) -> InfrastructureUnavailable:
    """What a client says of the brokers as our error."""
    return InfrastructureUnavailable(f"kafka.bootstrap_servers = {servers}: {what}: {problem}")
