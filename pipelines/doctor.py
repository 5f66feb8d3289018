"""What `gridwatch doctor` looks at beside settings, Kafka and lake: each part, why it fails, what to do."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.addresses import is_store
from pipelines.alerts.group import Group
from pipelines.client_errors import as_ours
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.heap import heap_bytes
from pipelines.identity.check import examine
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.lock import describe_holder, holder_of
from pipelines.identity.record import read_record
from pipelines.local.java import java_version, require_java
from pipelines.settings import Settings
from pipelines.small_tables import table_is_there
from pipelines.table_features import ALLOWED, foreign_features
from pipelines.tables import AUDIT, TABLES
from pipelines.topics import topic_offsets

Address = tuple[str, int]
"""Host and port."""

_PATIENCE_S = 3.0
_BESIDE_HEAP_BYTES = 1 << 30
"""What Java needs beside its heap, and Python."""


def look_at_java() -> str:
    """The Java that Spark will use."""
    java = require_java()
    return f"{java} is Java {java_version(java)}"


def look_at_memory(settings: Settings) -> str:
    """Whether the machine has the memory that the driver may take."""
    text = settings.pipeline.driver_memory
    wanted = heap_bytes(text) + _BESIDE_HEAP_BYTES
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted > there:
        raise SettingsError(
            f"pipeline.driver_memory = {text} and 1g beside it are more than this machine's {there >> 20} MB; lower it"
        )
    return f"{there >> 20} MB, of which the driver may take {wanted >> 20}"


def look_at_kafka_port(settings: Settings) -> str:
    """Whether one of the brokers can be connected to: one is enough to begin with."""
    return _connect("kafka.bootstrap_servers", list(_broker_addresses(settings)))


def look_at_store_port(address: Address) -> str:
    """Whether the address of the store can be connected to."""
    return _connect("store.endpoint", [address])


def store_address(settings: Settings) -> Address | None:
    """Where the store of the lake listens; None for a folder and for Amazon S3, which has many addresses."""
    if settings.store.endpoint and is_store(settings.lake.root):
        parts = urlsplit(settings.store.endpoint)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return None


def _connect(name: str, addresses: Sequence[Address]) -> str:
    said: list[str] = []
    refused: list[str] = []
    for host, port in addresses:
        try:
            socket.create_connection((host, port), timeout=_PATIENCE_S).close()
        except OSError as error:
            refused.append(f"{host}:{port}: {error.strerror or error}")
            said.append(f"{host}:{port} cannot ({error.strerror or error})")
        else:
            said.append(f"{host}:{port} can be connected to")
    if len(refused) == len(addresses):
        raise InfrastructureUnavailable(
            f"{name}: {', '.join(refused)}; start the server, look at the address and at firewalls"
        )
    return ", ".join(said)


def look_at_tables(settings: Settings) -> str:
    """Whether all readers know the features of the tables; DataRefused with all that have another."""
    with as_ours(settings):
        if found := list(foreign_features(settings)):
            raise DataRefused("; and ".join(found))
        there = sum(table_is_there(settings, table) for table in TABLES.values())
    return f"{there} of {len(TABLES)} tables are there, with no feature beyond {', '.join(sorted(ALLOWED))}"


def look_at_checkpoint(settings: Settings) -> str:
    """Whether the checkpoint can be written, and who uses it."""
    files = CheckpointFiles(settings)
    if files.is_folder:
        _require_writable(files.folder)
    record, holder = read_record(files), holder_of(settings)
    state = f"generation {record.number} ({record.generation})" if record else "new"
    return f"{files.root}: {state}, " + (f"in use by {describe_holder(holder)}" if holder else "not in use")


def look_at_identity(settings: Settings) -> str:
    """Whether checkpoint, tables, topics and settings belong together; DataRefused with all that does not fit."""
    with as_ours(settings):
        found = examine(settings)
    if found:
        raise DataRefused("; and ".join(found))
    return "checkpoint, tables, topics and settings belong together"


def look_at_alerts(settings: Settings) -> str:
    """How many members the alerts have, and how many records wait for them."""
    if not table_is_there(settings, AUDIT):
        return "no tables yet: the first start of `gridwatch run` makes them"
    with Group(settings) as group:
        members, judged = group.members(), group.committed()
        waiting = sum(max(end - judged[p], 0) for p, (_, end) in _ends(settings).items() if p in judged)
    judge = "1 member judges" if members == 1 else f"{members or 'no'} members judge"
    way = "" if members else "; start `gridwatch run` with alerts.with_pipeline = true, or `gridwatch alerts`"
    return f"group {group.name}: {judge} readings, {waiting:,} records wait{way}"


def _ends(settings: Settings) -> dict[int, tuple[int, int]]:
    with as_ours(settings):
        return topic_offsets(settings.kafka, settings.kafka.topics.readings)


def _broker_addresses(settings: Settings) -> Iterator[Address]:
    for server in settings.kafka.bootstrap_servers.split(","):
        host, _, port = server.strip().rpartition(":")
        if not port.isdecimal():
            raise SettingsError(f"kafka.bootstrap_servers = {server}: give host:port")
        yield host.strip("[]"), int(port)


def _require_writable(folder: Path) -> None:
    parent = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise GridwatchError(f"pipeline.checkpoint = {folder}: cannot be written; set it to a folder you may write")
