"""Refused credentials: kafka-python tries them again until its time is up, and says why only in its log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

_SIGNS = ("SaslAuthenticationFailedError", "Authentication failed")

_Receive = Callable[[Any], tuple[bytes, Exception | None]]


class RefusedCredentials(logging.Handler):
    """While the block lasts: `seen` once a broker has refused user, password or mechanism."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = False
        self._logger = logging.getLogger("kafka")
        self._receives = {transport: transport._sock_recv for transport in (KafkaTCPTransport, KafkaSSLTransport)}

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line of kafka-python's log."""
        self.seen = self.seen or any(sign in record.getMessage() for sign in _SIGNS)

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        for transport, receive in self._receives.items():
            transport._sock_recv = _last_words_heard(receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
        for transport, receive in self._receives.items():
            transport._sock_recv = receive


def _last_words_heard(receive: _Receive) -> _Receive:
    """kafka-python 3.0.12 drops what it reads together with the end of a stream: most often a broker's refusal.

    What was read is handed over first; the next read meets the end again.
    """

    def heard(transport: Any) -> tuple[bytes, Exception | None]:
        data, error = receive(transport)
        return (data, None) if data else (data, error)

    return heard
