"""Whether the lake's root can be written and read, found out without leaving anything behind."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from pipelines.addresses import is_store
from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.settings import Settings, Store

_TIMEOUT_S = 5.0
_ATTEMPTS = 2


def probe_lake(settings: Settings) -> str:
    """Write, read and remove a small file under `lake.root`; returns what was found.

    A folder that is not there yet is not made: whether it could be is told from its nearest parent.
    Raises SettingsError for a folder, InfrastructureUnavailable for a store, that refuses.
    """
    root = settings.lake.root
    return _probe_store(root, settings.store) if is_store(root) else _probe_folder(Path(root))


def _probe_folder(root: Path) -> str:
    if root.is_dir():
        _write_and_remove(root)
        return f"{root} can be written and read"
    parent = next(folder for folder in root.absolute().parents if folder.exists())
    if root.exists() or not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise SettingsError(f"lake.root = {str(root)!r}: the folder cannot be made; set lake.root to one you may write")
    return f"{root} is not there yet and can be made"


def _write_and_remove(root: Path) -> None:
    probe = root / f".gridwatch-check-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"gridwatch")
        probe.read_bytes()
        probe.unlink()
    except OSError as error:
        raise SettingsError(
            f"lake.root = {str(root)!r}: {error.strerror}; set lake.root to one you may write"
        ) from None


def _probe_store(root: str, store: Store) -> str:
    path = f"{root.partition('://')[2].rstrip('/')}/.gridwatch-check-{uuid.uuid4().hex}"
    where = store.endpoint or f"Amazon S3 in {store.region}"
    try:
        files = store_filesystem(store)
        with files.open_output_stream(path) as stream:
            stream.write(b"gridwatch")
        with files.open_input_stream(path) as stream:
            stream.read()
        files.delete_file(path)
    except OSError as error:
        reason = str(error).strip().split("\n")[0].partition("AWS Error ")[2] or str(error)
        raise InfrastructureUnavailable(
            f"lake.root = {root!r} at {where}: {reason}; look at GRIDWATCH_STORE__ENDPOINT and the"
            " keys, and that the bucket exists"
        ) from None
    return f"{root} at {where} can be written and read"


def store_filesystem(store: Store) -> Any:
    """The store as pyarrow sees it, giving up after seconds; without keys Amazon's own chain gives them."""
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    options: dict[str, Any] = {"region": store.region, "force_virtual_addressing": not store.path_style}
    if store.endpoint:
        scheme, _, address = store.endpoint.rpartition("://")
        options |= {"endpoint_override": address.rstrip("/"), "scheme": scheme or "http"}
    if store.ca_file:
        options["tls_ca_file_path"] = store.ca_file
    if store.access_key and store.secret_key:
        options["access_key"] = store.access_key.get_secret_value()
        options["secret_key"] = store.secret_key.get_secret_value()
    return S3FileSystem(
        **options,
        connect_timeout=_TIMEOUT_S,
        request_timeout=_TIMEOUT_S,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )
