"""The Kafka producer: connects with patience, sends, and knows what was acknowledged."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError
from kafka.partitioner import murmur2

from generator.encode import restamp
from generator.errors import InfrastructureError, UsageError
from generator.load import Network
from generator.malformed import FUTURE
from generator.transport import Record

CONNECT_S = 30.0
ATTEMPT_MS = 5_000
BACKOFF_S = (0.5, 1.0, 2.0, 4.0)
HOUR_MS = 3_600_000
PASSWORD_ENV = "GRIDWATCH_KAFKA__SASL_PASSWORD"
SECURITY_ENV = {
    "GRIDWATCH_KAFKA__SECURITY_PROTOCOL": "security_protocol",
    "GRIDWATCH_KAFKA__SASL_MECHANISM": "sasl_mechanism",
    "GRIDWATCH_KAFKA__SASL_USERNAME": "sasl_plain_username",
    PASSWORD_ENV: "sasl_plain_password",
    "GRIDWATCH_KAFKA__SSL_CAFILE": "ssl_cafile",
}


def producer_options(servers: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the producer's options: nothing lost, nothing twice; security from the environment."""
    given = _with_password_file(environment)
    security = {name: given[key] for key, name in SECURITY_ENV.items() if given.get(key)}
    return {
        "bootstrap_servers": servers.split(","),
        "client_id": "gridwatch-generator",
        "acks": "all",
        "enable_idempotence": True,
        "linger_ms": 5,
        "batch_size": 65_536,
        "allow_auto_create_topics": False,
        "bootstrap_timeout_ms": ATTEMPT_MS,
        "max_block_ms": 15_000,
        "metrics_enabled": False,
        **security,
    }


def _with_password_file(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the password from the file that `..._FILE` names, without its last line break."""
    path = environment.get(PASSWORD_ENV + "_FILE")
    if path is None:
        return dict(environment)
    try:
        return {**environment, PASSWORD_ENV: Path(path).read_text(encoding="utf-8").removesuffix("\n")}
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        action = "name a file with nothing but the password"
        raise UsageError(f"{PASSWORD_ENV}_FILE", f"{path} ({reason})", "a readable file", action) from None


class KafkaOutlet:
    """Sends records to one topic, keyed by the meter, and hands over those the broker acknowledged.

    A record counts when `acknowledged` returned it. If the process dies, what was sent and not yet
    acknowledged may or may not be in the topic.
    """

    def __init__(self, producer: Any, topic: str, network: Network) -> None:
        self._producer = producer
        self._topic = topic
        self._keys = [meter_id.encode() for meter_id in network.meter_id]
        self._partition = self._partitions()
        self._waiting: deque[tuple[Any, Record]] = deque()

    @property
    def waiting(self) -> int:
        """Number of records sent and not handed over by `acknowledged` yet."""
        return len(self._waiting)

    def send(self, records: list[Record]) -> None:
        """Send without waiting, header `sent-at` = wall clock in epoch ms. Raises InfrastructureError."""
        now_ms = int(time.time() * 1000)
        headers = [("sent-at", b"%d" % now_ms)]
        try:
            for record in records:
                value = record.value
                if record.variant == FUTURE:
                    value = restamp(value or b"{}", now_ms + HOUR_MS)
                future = self._producer.send(
                    self._topic, value, self._keys[record.meter], headers, self._partition[record.meter]
                )
                self._waiting.append((future, record))
        except KafkaError as error:
            raise self._undelivered(error) from error

    def acknowledged(self) -> list[Record]:
        """Return records whose delivery became certain, in order. Raises InfrastructureError on a loss."""
        done = []
        while self._waiting and self._waiting[0][0].is_done:
            future, record = self._waiting.popleft()
            if future.exception is not None:
                raise self._undelivered(future.exception)
            done.append(record)
        return done

    def flush(self, timeout_s: float) -> None:
        """Wait until everything sent is acknowledged or failed, at most `timeout_s` seconds."""
        try:
            self._producer.flush(timeout_s)
        except KafkaError as error:
            raise self._undelivered(error) from error

    def close(self) -> None:
        """Let the connection go without waiting for records."""
        self._producer.close(timeout=0 if self._waiting else 5)

    def _partitions(self) -> list[int]:
        """The partition of every meter, as the default partitioner chooses it, but computed once."""
        try:
            partitions = sorted(self._producer.partitions_for(self._topic))
        except KafkaError as error:
            raise InfrastructureError(
                f"topic {self._topic}: got {error}; allowed: an existing topic this user may write; "
                "create it with `gridwatch topics create`"
            ) from error
        return [partitions[(murmur2(key) & 0x7FFFFFFF) % len(partitions)] for key in self._keys]

    def _undelivered(self, error: object) -> InfrastructureError:
        return InfrastructureError(
            f"delivery to topic {self._topic}: got {error}; {len(self._waiting)} records unacknowledged; "
            "allowed: no loss; check the broker and run again"
        )


def connect(
    servers: str, topic: str, network: Network, *, say: Callable[[str], None], stop: threading.Event
) -> KafkaOutlet:
    """Return an outlet connected to the broker, trying for 30 s with growing pauses and saying so.

    Raises InfrastructureError when the broker or the topic is not reachable by then, or on wrong security
    options.
    """
    logging.getLogger("kafka").addHandler(logging.NullHandler())
    options = producer_options(servers, os.environ)
    deadline, attempt = time.monotonic() + CONNECT_S, 0
    while True:
        try:
            return KafkaOutlet(KafkaProducer(**options), topic, network)
        except (KafkaError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            pause = BACKOFF_S[min(attempt, len(BACKOFF_S) - 1)]
            if stop.is_set() or isinstance(error, ValueError) or time.monotonic() + pause > deadline:
                raise InfrastructureError(
                    f"Kafka at {servers} is not reachable: got {reason}; allowed: a running broker; "
                    "start one with `gridwatch broker start` or correct --bootstrap-servers"
                ) from error
        say(f"waiting for Kafka at {servers}: {reason}")
        stop.wait(pause)
        attempt += 1
