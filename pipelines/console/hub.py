"""Messages to every open page, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

_WAITING = 500
"""A page that is so many messages behind is let go; it comes back and gets everything anew."""
_PING_S = 15.0
_RETRY = b"retry: 1000\n\n"


def as_event(name: str, message: Any) -> bytes:
    """One server-sent event.

    >>> as_event("health", {"ok": True})
    b'event: health\\ndata: {"ok":true}\\n\\n'
    """
    data = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    return f"event: {name}\ndata: {data}\n\n".encode()


class Hub:
    """The open pages. Used in the event loop's thread only."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._clients: set[asyncio.Queue[bytes | None]] = set()
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether as many pages are open as may be."""
        return len(self._clients) >= self._most

    def publish(self, name: str, message: Any) -> None:
        """Send to all; one that does not read is let go."""
        event = as_event(name, message)
        for queue in list(self._clients):
            try:
                queue.put_nowait(event)
            except asyncio.QueueFull:
                self._clients.discard(queue)
                _end(queue)

    async def listen(self, first: bytes) -> AsyncIterator[bytes]:
        """What one page is sent: `first`, then all that is published, and a comment where nothing is for long."""
        with self._client() as queue:
            yield _RETRY + first
            while True:
                try:
                    event = await asyncio.wait_for(queue.get(), _PING_S)
                except TimeoutError:
                    event = b": still here\n\n"
                if event is None:
                    return
                yield event

    def close(self) -> None:
        """End every page's stream, and at once that of a page which still comes."""
        self._closed = True
        for queue in self._clients:
            _end(queue)
        self._clients.clear()

    @contextmanager
    def _client(self) -> Iterator[asyncio.Queue[bytes | None]]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._clients.add(queue)
        if self._closed:
            _end(queue)
        try:
            yield queue
        finally:
            self._clients.discard(queue)


def _end(queue: asyncio.Queue[bytes | None]) -> None:
    while not queue.empty():
        queue.get_nowait()
    queue.put_nowait(None)
