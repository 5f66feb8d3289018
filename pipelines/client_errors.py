"""What the clients of Kafka and the store raise, as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from kafka.errors import KafkaError

from pipelines.errors import InfrastructureUnavailable
from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS

CLIENT_ERRORS = (KafkaError, *STORE_ERRORS)


@contextmanager
def as_ours(settings: Settings) -> Iterator[None]:
    """Errors of the clients of Kafka and the store as InfrastructureUnavailable."""
    try:
        yield
    except KafkaError as error:
        raise InfrastructureUnavailable(
            f"kafka.bootstrap_servers = {settings.kafka.bootstrap_servers}: {type(error).__name__}: {error}"
        ) from None
    except STORE_ERRORS as error:
        line = str(error).strip().split("\n")[0]
        raise InfrastructureUnavailable(f"lake.root = {settings.lake.root}: {line}") from None
