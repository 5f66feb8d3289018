"""Addresses and names in settings: which are places of a store, and why one cannot be meant."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_STORE = ("s3://", "s3a://")
_IN_STORE = re.compile(r"s3a?://[^/]+(/.*)?")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_MOST_PORT = 65535


def is_store(place: str) -> bool:
    """Whether a place is in an object store, and not a folder.

    >>> [is_store(place) for place in ("s3a://grid/lake", "s3://grid", "s3-copy", "/srv/lake")]
    [True, True, False, False]
    """
    return place.startswith(_STORE)


def require_place(place: str) -> str:
    """The place as it is. Raises ValueError unless it is a folder or below a bucket."""
    if "://" in place and not _IN_STORE.fullmatch(place):
        raise ValueError("give a folder, or s3a://bucket/prefix")
    return place


def require_topic_name(name: str) -> str:
    """The name as it is. Raises ValueError for one that Kafka refuses."""
    if not _TOPIC.fullmatch(name) or name in (".", ".."):
        raise ValueError("a topic's name is 1 to 249 letters, digits, dots, underscores and hyphens")
    return name


def require_brokers(servers: str) -> str:
    """The list as it is. Raises ValueError unless every part of it is host:port."""
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        is_host = bool(host) and not re.search(r"[\s/]", host) and (":" not in host or _is_bracketed(host))
        if not (is_host and port.isascii() and port.isdecimal() and 1 <= int(port) <= _MOST_PORT):
            raise ValueError(
                f"{server.strip() or 'nothing'!r} is no host:port with a port from 1 to {_MOST_PORT}; several are"
                " separated by commas"
            )
    return servers


def require_endpoint(endpoint: str) -> str:
    """The URL as it is. Raises ValueError unless it has a scheme, a host and, if any, a legal port."""
    try:
        parts = urlsplit(endpoint)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    if not is_url or re.search(r"\s", endpoint):
        raise ValueError("give http:// or https://, a host and, if need be, a port, such as http://127.0.0.1:9000")
    return endpoint


def _is_bracketed(host: str) -> bool:
    return host.startswith("[") and host.endswith("]")
