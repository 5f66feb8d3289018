"""Refused credentials: kafka-python tries them again until its time is up, and says why only in its log."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

_SIGNS = ("SaslAuthenticationFailedError", "Authentication failed")


class RefusedCredentials(logging.Handler):
    """While the block lasts: `seen` once a broker has refused user, password or mechanism."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.seen = False
        self._logger = logging.getLogger("kafka")

    def emit(self, record: logging.LogRecord) -> None:
        """Look at a line of kafka-python's log."""
        self.seen = self.seen or any(sign in record.getMessage() for sign in _SIGNS)

    def __enter__(self) -> Self:
        self._logger.addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logger.removeHandler(self)
