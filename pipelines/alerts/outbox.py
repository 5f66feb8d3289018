"""Anomalies out to Kafka, and up to where they are acknowledged: only that may be committed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from pipelines.broker.records import librdkafka_options
from pipelines.errors import InfrastructureUnavailable
from pipelines.settings import Settings

Event = dict[str, Any]
"""An anomaly in the contract's names and order."""
Mark = TypeVar("Mark")

_encode = msgspec.json.Encoder().encode


def record_of(event: Event) -> tuple[str, bytes, bytes]:
    """Key, value and id of an anomaly's record; stamps detectedAt with the clock of the sending."""
    event["detectedAt"] = int(time.time() * 1000)
    return event["meterId"], _encode(event), event["anomalyId"].encode()


@dataclass
class _Stretch(Generic[Mark]):
    """What was sent between two marks."""

    waiting: int = 0
    mark: Mark | None = None


class Outbox(Generic[Mark]):
    """Sends at once, and tells which marks have everything before them acknowledged.

    `check` raises InfrastructureUnavailable when Kafka has not taken a record within `alerts.deliver_within`: the
    caller then begins again at what it has committed.
    """

    def __init__(self, settings: Settings, on_sent: Callable[[Event], None]) -> None:
        kafka = settings.kafka
        self._topic = kafka.topics.anomalies
        self._where = f"topic {self._topic} at {kafka.bootstrap_servers}"
        self._limit_s = settings.alerts.deliver_within
        options = {
            "acks": "all", "enable.idempotence": True, "linger.ms": 0,
            "delivery.timeout.ms": int(self._limit_s * 1000), "log_level": 0,
        }  # fmt: skip
        self._producer = Producer(librdkafka_options(kafka) | options)
        self._on_sent = on_sent
        self._stretches: deque[_Stretch[Mark]] = deque([_Stretch()])
        self._failure: KafkaError | None = None

    def send(self, event: Event) -> None:
        """Stamp an event with the clock and hand it over. Waits for room while the client's queue is full."""
        stretch = self._stretches[-1]
        key, value, identity = record_of(event)

        def acknowledged(error: KafkaError | None, _message: Message) -> None:
            stretch.waiting -= 1
            self._failure = self._failure or error

        while True:
            try:
                self._producer.produce(
                    self._topic, value, key, headers=[("anomaly-id", identity)], on_delivery=acknowledged
                )
                break
            except BufferError:
                self._producer.poll(0.1)
                self.check()
            except KafkaException as error:
                raise InfrastructureUnavailable(f"{self._where}: {error.args[0].str()}") from None
        stretch.waiting += 1
        self._on_sent(event)

    def check(self) -> None:
        """Take in acknowledgements. Raises InfrastructureUnavailable when a record was not taken."""
        self._producer.poll(0)
        if self._failure is not None:
            raise InfrastructureUnavailable(f"{self._where}: {self._failure.str()} (alerts.deliver_within)")

    def mark(self, mark: Mark) -> None:
        """All that was sent up to here belongs to this mark."""
        self._stretches[-1].mark = mark
        self._stretches.append(_Stretch())

    def acknowledged(self) -> Mark | None:
        """The newest mark before which everything is acknowledged and that was not returned yet."""
        self.check()
        newest: Mark | None = None
        while len(self._stretches) > 1 and not self._stretches[0].waiting:
            newest = self._stretches.popleft().mark
        return newest

    @property
    def has_marks(self) -> bool:
        """Whether a mark waits for acknowledgements."""
        return len(self._stretches) > 1

    def flush(self, limit_s: float) -> bool:
        """Wait until everything is acknowledged; whether it was within the time. Raises as `check` does."""
        left = self._producer.flush(min(limit_s, self._limit_s + 1))
        self.check()
        return not left
