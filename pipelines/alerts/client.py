"""How a member of the alerts comes to Kafka: its name, its consumer's options, and what its errors mean."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from pipelines.alerts.group import unreachable
from pipelines.broker.records import librdkafka_options
from pipelines.errors import GridwatchError, InfrastructureUnavailable, MemberFenced
from pipelines.settings import Settings

SESSION_S = 11.0
"""A member that is not heard of for so long has left the group."""
_REFUSED = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
_FENCED = (KafkaError.FENCED_INSTANCE_ID, KafkaError._FENCED)
NEVER_PASSES = (
    *_REFUSED, *_FENCED, KafkaError._FATAL, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC,
    KafkaError._MAX_POLL_EXCEEDED,
)  # fmt: skip
"""Errors that a consumer does not get over by itself."""


def member_options(settings: Settings, group: str, name: str) -> dict[str, Any]:
    """Options of a member's consumer; hold the password in clear.

    Static and cooperative: a restart under the same name is no rebalance, and in one the partitions that stay go on.
    A position that Kafka does not have is an error, never another position.
    """
    return librdkafka_options(settings.kafka) | {
        "group.id": group,
        "group.instance.id": name,
        "client.id": f"gridwatch-alerts-{name}",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": int(SESSION_S * 1000),
        "heartbeat.interval.ms": 2_500,
        "topic.metadata.refresh.interval.ms": 10_000,
        "isolation.level": "read_committed",
        "auto.offset.reset": "error",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "allow.auto.create.topics": False,
        "check.crcs": False,
        "queued.min.messages": 20_000,
        "queued.max.messages.kbytes": 16_384,
        "fetch.queue.backoff.ms": 5,  # its own second would hold every burst that fills the queue
        "reconnect.backoff.max.ms": 1_000,
        "log_level": 0,
    }


def explained(error: KafkaException, settings: Settings, group: str, name: str) -> GridwatchError:
    """What an error of the consumer means for the member, as our own."""
    problem = error.args[0]
    code, text = problem.code(), problem.str()
    if code in _FENCED or "fenced" in text.lower():
        return MemberFenced(f"another member of group {group} has the name {name} and has taken over; this one ends")
    if code in _REFUSED:
        return InfrastructureUnavailable(
            f"group {group}: {text}; `gridwatch check` looks at the rights (conf/security/kafka-acls.toml)"
        )
    return unreachable(settings.kafka.bootstrap_servers, text, f"group {group}")


def pipeline_member(lake: str) -> str:
    """Name of the member that a pipeline starts: one lake has one pipeline, on whatever host."""
    return f"pipeline-{lake}"


@contextmanager
def host_member(group: str, folder: Path | None = None) -> Iterator[str]:
    """`host-number`, with the first number that no running member of this host has, held for the block.

    The number is held by a lock that the kernel releases when the process dies, however it dies.
    """
    key = hashlib.sha256(group.encode()).hexdigest()[:16]
    place = folder or Path(tempfile.gettempdir())
    number = 0
    while True:
        path = place / f"gridwatch-{os.getuid()}-{key}-{number}.lock"
        with path.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                number += 1
                continue
            yield f"{socket.gethostname()}-{number}"
            return
