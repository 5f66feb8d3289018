"""Credentials that everybody knows: fine for a server on this machine, refused for one that others can reach."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

WELL_KNOWN = frozenset(
    {
        "minioadmin", "minio123", "miniopass", "rustfsadmin", "admin", "administrator", "root", "password", "passw0rd",
        "changeme", "change-me", "changeit", "secret", "test", "test123", "guest", "default", "kafka", "gridwatch",
        "admin-secret", "client-secret", "alice-secret", "broker-secret", "12345678", "password123",
    }
)  # fmt: skip
"""Passwords and secret keys of images, quick starts and tutorials, in lower case."""


def default_secret_problem(user: str | None, secret: str, hosts: Iterable[str]) -> str | None:
    """Why these credentials may not be used at these hosts (`host` or `host:port`); None when they may.

    >>> default_secret_problem("minioadmin", "minioadmin", ["127.0.0.1:9000"])
    >>> default_secret_problem("me", "ChangeMe", ["10.0.0.5:9000"])
    'a well-known default at 10.0.0.5, which others can reach'
    """
    if secret.lower() not in WELL_KNOWN and secret != user:
        return None
    outside = [name for name in map(host_of, hosts) if not is_loopback(name)]
    return f"a well-known default at {outside[0]}, which others can reach" if outside else None


def host_of(address: str) -> str:
    """The host in an address or URL.

    >>> [host_of(a) for a in ("https://s3.example.net/x", "kafka:9092", "[::1]:9092", "127.0.0.1")]
    ['s3.example.net', 'kafka', '::1', '127.0.0.1']
    """
    rest = address.rpartition("://")[2].partition("/")[0].strip()
    return rest[1:].partition("]")[0] if rest.startswith("[") else rest.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant.

    >>> [is_loopback(h) for h in ("localhost", "127.8.0.1", "::1", "10.0.0.1", "kafka")]
    [True, True, True, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
