"""Where the partitions of a topic end, for readers of committed records."""

from __future__ import annotations

from typing import Any

from confluent_kafka import IsolationLevel, KafkaException, TopicPartition, admin

from pipelines.broker.records import librdkafka_options
from pipelines.errors import InfrastructureUnavailable
from pipelines.settings import Kafka

_PATIENCE_S = 30.0


def committed_ends(kafka: Kafka, topic: str) -> dict[int, int]:
    """The next offset of each partition behind which a reader of committed records gets nothing now.

    Raises InfrastructureUnavailable when the brokers do not answer.
    """
    library: Any = admin
    client = library.AdminClient(librdkafka_options(kafka) | {"log_level": 0})
    try:
        partitions = client.list_topics(topic, timeout=_PATIENCE_S).topics[topic].partitions
        asked = {TopicPartition(topic, partition): library.OffsetSpec.latest() for partition in partitions}
        answers = client.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=_PATIENCE_S)
        return {place.partition: answer.result().offset for place, answer in answers.items()}
    except KafkaException as error:
        raise InfrastructureUnavailable(
            f"kafka.bootstrap_servers = {kafka.bootstrap_servers}: ends of topic {topic}: {error.args[0].str()}"
        ) from None
