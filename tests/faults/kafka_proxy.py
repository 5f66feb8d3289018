"""A proxy between a Kafka client and the broker: refuses, freezes, delays, and loses requests or replies by kind.

It reads the frames of Kafka's protocol (length, API key, correlation id) and nothing deeper, so what passes is
byte for byte what client and broker said. The broker must advertise the proxy's address on the listener behind it.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pipelines.local.ports import LOOPBACK

PRODUCE, FETCH = 0, 1
"""API keys of the protocol."""

_HEADER = struct.Struct(">ihhi")
_LENGTH = struct.Struct(">i")
_LARGEST = 64 * 1024 * 1024


@dataclass
class KafkaFaults:
    """What the proxy does now; change the fields while it runs."""

    refuse: bool = False
    """Close new and open connections, as a host without a broker."""
    freeze: bool = False
    """Pass nothing on and answer nothing, as a network that swallows packets."""
    delay_s: float = 0.0
    """Wait before each request is passed on."""
    hold_requests: frozenset[int] = frozenset()
    """API keys whose requests never reach the broker."""
    lose_replies: frozenset[int] = frozenset()
    """API keys whose requests reach the broker and whose replies never come back."""


@dataclass
class Passed:
    """How many frames of each API key went which way."""

    requests: dict[int, int] = field(default_factory=dict)
    held: dict[int, int] = field(default_factory=dict)
    lost: dict[int, int] = field(default_factory=dict)


class KafkaProxy:
    """Listens on a loopback port and passes on to the broker's; a context manager that ends it."""

    def __init__(self, port: int, broker_port: int) -> None:
        self.port = port
        self.faults = KafkaFaults()
        self.passed = Passed()
        self._broker_port = broker_port
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = socket.create_server((LOOPBACK, port), backlog=128)
        threading.Thread(target=self._accept, name="kafka-proxy", daemon=True).start()

    @property
    def address(self) -> str:
        """`127.0.0.1:PORT`."""
        return f"{LOOPBACK}:{self.port}"

    def heal(self) -> None:
        """No faults any more; connections that were harmed are closed, so that clients begin anew."""
        harmed = self.faults.freeze or self.faults.hold_requests or self.faults.lose_replies
        self.faults = KafkaFaults()
        if harmed:
            self._close_connections()

    def refuse(self) -> None:
        """Close all connections and every new one until `heal`."""
        self.faults.refuse = True
        self._close_connections()

    def stop(self) -> None:
        """End it."""
        self._closed.set()
        self._server.close()
        self._close_connections()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        while not self._closed.is_set():
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        if self.faults.refuse:
            client.close()
            return
        try:
            broker = socket.create_connection((LOOPBACK, self._broker_port), timeout=5)
        except OSError:
            client.close()
            return
        broker.settimeout(None)
        with self._lock:
            self._open |= {client, broker}
        waiting: dict[int, int] = {}
        for pump, ends in ((self._requests, (client, broker)), (self._replies, (broker, client))):
            threading.Thread(target=self._pump, args=(pump, *ends, waiting), daemon=True).start()

    def _pump(self, pump: object, source: socket.socket, target: socket.socket, waiting: dict[int, int]) -> None:
        with suppress(OSError):
            pump(source, target, waiting)  # type: ignore[operator]
        for end in (source, target):
            _close(end)
        with self._lock:
            self._open -= {source, target}

    def _requests(self, client: socket.socket, broker: socket.socket, waiting: dict[int, int]) -> None:
        while frame := _frame(client):
            _, key, _, correlation = _HEADER.unpack(frame[: _HEADER.size])
            faults = self.faults
            time.sleep(faults.delay_s)
            self._while_frozen()
            if key in self.faults.hold_requests:
                _count(self.passed.held, key)
                continue
            waiting[correlation] = key
            broker.sendall(frame)
            _count(self.passed.requests, key)

    def _replies(self, broker: socket.socket, client: socket.socket, waiting: dict[int, int]) -> None:
        while frame := _frame(broker):
            (correlation,) = _LENGTH.unpack(frame[4:8])
            key = waiting.pop(correlation, -1)
            self._while_frozen()
            if key in self.faults.lose_replies:
                _count(self.passed.lost, key)
                continue
            client.sendall(frame)

    def _while_frozen(self) -> None:
        while self.faults.freeze and not self._closed.is_set():
            time.sleep(0.02)

    def _close_connections(self) -> None:
        with self._lock:
            harmed, self._open = self._open, set()
        for end in harmed:
            _close(end)


def _frame(source: socket.socket) -> bytes:
    """The next frame with its length; empty when the other side has gone."""
    head = _exactly(source, _LENGTH.size)
    if not head:
        return b""
    (length,) = _LENGTH.unpack(head)
    if not 0 < length <= _LARGEST:
        raise OSError(f"a frame of {length} bytes is none of Kafka's")
    return head + _exactly(source, length)


def _exactly(source: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        more = source.recv(count - len(parts))
        if not more:
            return b""
        parts += more
    return bytes(parts)


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def _count(counts: dict[int, int], key: int) -> None:
    counts[key] = counts.get(key, 0) + 1
