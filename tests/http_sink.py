"""A real HTTP server that keeps what is posted to it and answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from pipelines.local.ports import LOOPBACK


class HttpSink:
    """Listens on a loopback port; `answers` are the next status codes, 200 when there is none.

    Where `location` is set every answer names it, and a GET is answered 200, as a login page does.
    `taken`: path and document of each post, `times`: when it came (monotonic seconds) and its path.
    """

    def __init__(self, port: int = 0) -> None:
        self.taken: list[tuple[str, Any]] = []
        self.times: list[tuple[float, str]] = []
        self.answers: list[int] = []
        self.location: str | None = None
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                sink.times.append((time.monotonic(), self.path))
                sink.taken.append((self.path, json.loads(body)))
                self.send_response(sink.answers.pop(0) if sink.answers else 200)
                if sink.location:
                    self.send_header("Location", sink.location)
                self.end_headers()

            def do_GET(self) -> None:
                sink.taken.append((self.path, None))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Nothing: pytest would show it."""

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def url(self, path: str) -> str:
        """Address of a path."""
        return f"http://{LOOPBACK}:{self._server.server_port}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
