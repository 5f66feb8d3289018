"""A proxy before the object store: refuses, delays, answers 503, and holds or loses the reply to what was done."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from pipelines.local.ports import LOOPBACK

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_WITH_A_BODY = ("PUT", "POST")
_LOOKS_EVERY_S = 0.02
_BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class StoreFaults:
    """What the proxy does now; change the fields while it runs."""

    refuse: bool = False
    """Close every connection without an answer."""
    delay_s: float = 0.0
    """Wait before each request is passed on."""
    busy_share: float = 0.0
    """Share of the requests answered with 503 SlowDown instead of being passed on."""
    busy_for: Callable[[str, str], bool] = lambda method, path: True
    """(method, path) of the requests that `busy_share` is meant for."""
    lose_reply_to: Callable[[str, str], bool] = lambda method, path: False
    """(method, path) of requests that are passed on and done, and whose reply is lost."""
    hold_reply_to: Callable[[str, str], bool] = lambda method, path: False
    """(method, path) of requests that are passed on and done, and whose reply is held back while this says so."""
    deny: Callable[[str, str], bool] = lambda method, path: False
    """(method, path) of requests that are answered with 403 AccessDenied."""
    full: bool = False
    """Writes are answered with 507 XMinioStorageFull, as MinIO does on a full disk."""


@dataclass
class Answered:
    """What became of the requests."""

    passed: int = 0
    refused: int = 0
    busy: int = 0
    denied: int = 0
    lost: list[str] = field(default_factory=list)
    held: list[str] = field(default_factory=list)


class StoreProxy:
    """Listens on a loopback port and passes HTTP on to the store's; a context manager that ends it."""

    def __init__(self, port: int, store_port: int, draw: Callable[[], float]) -> None:
        self.port = port
        self.faults = StoreFaults()
        self.answered = Answered()
        self._server = _Server((LOOPBACK, port), _Handler)
        self._server.proxy, self._server.store_port, self._server.draw = self, store_port, draw
        threading.Thread(target=self._server.serve_forever, name="store-proxy", daemon=True).start()

    @property
    def endpoint(self) -> str:
        """`http://127.0.0.1:PORT`."""
        return f"http://{LOOPBACK}:{self.port}"

    def heal(self) -> None:
        """No faults any more."""
        self.faults = StoreFaults()

    def stop(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: StoreProxy
    store_port: int
    draw: Callable[[], float]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no error of ours."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Requests are counted, not printed."""

    def handle_one_request(self) -> None:
        """One request, whatever its method."""
        with suppress(ConnectionError, socket.timeout):
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self._answer()

    def _answer(self) -> None:
        proxy, faults = self.server.proxy, self.server.proxy.faults
        if faults.refuse:
            proxy.answered.refused += 1
            return self._hang_up()
        time.sleep(faults.delay_s)
        body = self._body()
        writes = self.command in _WITH_A_BODY
        if faults.deny(self.command, self.path):
            proxy.answered.denied += 1
            return self._reply(403, [], b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>")
        if faults.full and writes:
            return self._reply(507, [], b"<?xml version='1.0'?><Error><Code>XMinioStorageFull</Code></Error>")
        if faults.busy_share and faults.busy_for(self.command, self.path) and self.server.draw() < faults.busy_share:
            proxy.answered.busy += 1
            return self._reply(503, [], _BUSY)
        return self._pass_on(body)

    def _body(self) -> bytes:
        """What comes behind the headers: of a stated length, or in chunks, as pyarrow's client sends it."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _pass_on(self, body: bytes) -> None:
        proxy = self.server.proxy
        store = http.client.HTTPConnection(LOOPBACK, self.server.store_port, timeout=30)
        try:
            store.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in (*_HOP, "expect"):
                    store.putheader(name, value)
            if body or self.command in _WITH_A_BODY:
                store.putheader("Content-Length", str(len(body)))
            store.endheaders(body or None)
            answer = store.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            return self._hang_up()
        finally:
            store.close()
        if proxy.faults.hold_reply_to(self.command, self.path):
            proxy.answered.held.append(f"{self.command} {self.path}")
            while proxy.faults.hold_reply_to(self.command, self.path):
                time.sleep(_LOOKS_EVERY_S)
            return self._hang_up()
        if proxy.faults.lose_reply_to(self.command, self.path):
            proxy.answered.lost.append(f"{self.command} {self.path} {answer.status}")
            return self._hang_up()
        proxy.answered.passed += 1
        return self._reply(answer.status, answer.getheaders(), content)

    def _reply(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        length = {n.lower(): v for n, v in headers}.get("content-length")
        for name, value in headers:
            if name.lower() not in _HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length if self.command == "HEAD" and length else str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
