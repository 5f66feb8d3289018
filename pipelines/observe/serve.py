"""The HTTP server that Prometheus asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, start_http_server

Say = Callable[[str], None]


@contextmanager
def served(registry: CollectorRegistry, host: str, port: int, say: Say) -> Iterator[None]:
    """Serve a registry at http://host:port/metrics while the block lasts; port 0 serves none.

    A port that is taken is said and does not stop the job: readings count more than figures about them, and
    Prometheus' own `up` tells that nobody answers.
    """
    if not port:
        yield
        return
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as problem:
        say(f"metrics are not served: {host}:{port}: {problem.strerror}; set metrics.port, metrics.alerts_port")
        yield
        return
    say(f"metrics at http://{host}:{port}/metrics")
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=2)
