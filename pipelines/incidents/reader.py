"""The topics of the incidents as one reader has them: committed records, from given offsets on, outside any group."""

from __future__ import annotations

import time
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from pipelines.broker.records import librdkafka_options
from pipelines.errors import InfrastructureUnavailable
from pipelines.incidents.positions import Offsets
from pipelines.settings import Settings

_OPTIONS = {
    "group.id": "gridwatch-incidents",  # the library asks for one; it is never joined and nothing is committed
    "client.id": "gridwatch-incidents",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
    "queued.max.messages.kbytes": 16_384,
    "fetch.queue.backoff.ms": 5,
    "reconnect.backoff.max.ms": 1_000,
    "log_level": 0,
}
_NEVER_PASSES = (
    KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC,
    KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE,
)  # fmt: skip
_PATIENCE_S = 30.0
_GATHER_S = 0.1
_LOOK_EVERY_S = 30.0


class TopicsReader:
    """Reads the topics; `read_to` says up to where, markers of transactions included.

    Everything raises InfrastructureUnavailable for what does not pass by itself: rights, a topic or records that are
    gone (`gridwatch run` then names the way out). Brokers that are away are waited for.
    """

    def __init__(self, settings: Settings, topics: list[str]) -> None:
        self._settings = settings
        self._topics = topics
        self._consumer: Any = Consumer(librdkafka_options(settings.kafka) | _OPTIONS)
        self._assigned: set[tuple[str, int]] = set()
        self._looked_at = 0.0
        self.read_to: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        """Next offset of each partition, once it is known where the partition begins."""

    def partitions(self) -> dict[str, list[int]]:
        """The partitions of each topic."""
        try:
            there = self._consumer.list_topics(timeout=_PATIENCE_S).topics
        except KafkaException as error:
            raise self._as_ours(error.args[0]) from None
        if missing := [topic for topic in self._topics if topic not in there]:
            raise InfrastructureUnavailable(f"topic {missing[0]} is gone from {self._settings.kafka.bootstrap_servers}")
        return {topic: sorted(there[topic].partitions) for topic in self._topics}

    def begin(self, offsets: Offsets) -> None:
        """Read every partition from its offset on, one without from its beginning."""
        self._looked_at = time.monotonic()
        for topic, partitions in self.partitions().items():
            for partition in partitions:
                self._add(topic, partition, offsets.get(topic, {}).get(partition))

    def read(self, most: int, wait_s: float) -> list[Any]:
        """Records in the order of each partition: waits for the first, and `_GATHER_S` more for others."""
        self._look_for_partitions()
        first = self._consumer.poll(wait_s)
        messages = [] if first is None else [first, *self._consumer.consume(most - 1, _GATHER_S)]
        return [message for message in messages if self._take(message)]

    def close(self) -> None:
        """Leave the brokers."""
        self._consumer.close()

    def _take(self, message: Any) -> bool:
        """Note how far a partition is read; whether the message is a record."""
        error = message.error()
        if error is None:
            self.read_to[message.topic()][message.partition()] = message.offset() + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self.read_to[message.topic()][message.partition()] = message.offset()
        elif error.fatal() or error.code() in _NEVER_PASSES:
            raise self._as_ours(error)
        return False

    def _look_for_partitions(self) -> None:
        """Partitions that were added are read from their beginning."""
        if time.monotonic() - self._looked_at < _LOOK_EVERY_S:
            return
        self._looked_at = time.monotonic()
        try:
            there = self.partitions()
        except InfrastructureUnavailable:  # the next look tries again
            return
        for topic, partitions in there.items():
            for partition in partitions:
                if (topic, partition) not in self._assigned:
                    self._add(topic, partition, None)

    def _add(self, topic: str, partition: int, offset: int | None) -> None:
        self._assigned.add((topic, partition))
        if offset is not None:
            self.read_to[topic][partition] = offset
        place = TopicPartition(topic, partition, OFFSET_BEGINNING if offset is None else offset)
        self._consumer.incremental_assign([place])

    def _as_ours(self, error: KafkaError) -> InfrastructureUnavailable:
        servers = self._settings.kafka.bootstrap_servers
        return InfrastructureUnavailable(f"kafka.bootstrap_servers = {servers}: topics of the incidents: {error.str()}")
