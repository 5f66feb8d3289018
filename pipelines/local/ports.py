"""Free loopback ports that stay free while their server is down for a moment."""

from __future__ import annotations

import random
import socket
from pathlib import Path

LOOPBACK = "127.0.0.1"
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 1000


def free_port() -> int:
    """One free loopback port; see `free_ports`."""
    return free_ports(1)[0]


def free_ports(count: int) -> tuple[int, ...]:
    """`count` different TCP ports nobody listens on at 127.0.0.1, outside the range of outgoing connections.

    Asking the system for port 0 gives a port of that range. A client that keeps retrying while the server is
    restarted can then be given the server's own port as its source, connect to itself and block the restart.
    A port is only looked at, not held: between this call and the server's bind another program may take it.
    """
    found: list[int] = []
    for port in random.SystemRandom().sample(server_range(), _TRIES):
        if len(found) == count:
            break
        if is_free(port):
            found.append(port)
    if len(found) < count:
        raise OSError(f"only {len(found)} of {count} free ports found on {LOOPBACK} after {_TRIES} tries")
    return tuple(found)


def server_range() -> range:
    """Ports for servers: from 10240 up to where the kernel's range of outgoing connections begins."""
    lowest_outgoing = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else 32768
    return range(10240, lowest_outgoing) if lowest_outgoing > 12000 else range(10240, 65536)


def is_free(port: int) -> bool:
    """Whether a server could bind this loopback port now (connections left in TIME_WAIT do not count)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def is_open(port: int) -> bool:
    """Whether somebody listens on this loopback port now."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=1.0) as connection:
            return bool(connection.getsockname() != connection.getpeername())
    except OSError:
        return False
