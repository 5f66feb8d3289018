"""The console as a process: a socket, the application, and a line that says where it is."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from pipelines.console.app import build_app
from pipelines.console.hub import Hub
from pipelines.errors import SettingsError
from pipelines.settings import Console, Settings

READY = "the console is at"
"""Begins the line that names the page's address; who started the process waits for it."""

_LEAVE_S = 2


def serve(settings: Settings, say: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C, then raise KeyboardInterrupt.

    Raises SettingsError when the address cannot be listened on.
    """
    with _listener(settings.console) as listener:
        app = build_app(settings)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_LEAVE_S,
        )
        say(f"{READY} {address(settings.console, listener.getsockname()[1])}")
        if settings.console.token is None:
            say("it only shows; with GRIDWATCH_CONSOLE__TOKEN set it also takes acknowledgements, mutes and feedback")
        server = _Server(config, app.state.desk.hub)
        server.run(sockets=[listener])
    if server.was_asked:
        raise KeyboardInterrupt


class _Server(uvicorn.Server):
    """Ends the pages' streams first: uvicorn would wait for them, and then break them off with a traceback."""

    def __init__(self, config: uvicorn.Config, hub: Hub) -> None:
        super().__init__(config)
        self._hub = hub
        self.was_asked = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note that a signal ends the server."""
        self.was_asked = True
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open."""
        self._hub.close()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but a signal is not raised again at the end: `serve` says that it came."""
        ours = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in ours}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def address(console: Console, port: int) -> str:
    """Where a browser on this machine finds the page.

    >>> address(Console(), 8787)
    'http://127.0.0.1:8787/'
    """
    host = "127.0.0.1" if console.host in ("0.0.0.0", "::") else console.host
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def _listener(console: Console) -> socket.socket:
    family = socket.AF_INET6 if ":" in console.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((console.host, console.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be listened on ({error.strerror})"
        raise SettingsError(
            f"console.host = {console.host}, console.port = {console.port} {why}: --set console.port=0 takes a free one"
        ) from None
    return listener
