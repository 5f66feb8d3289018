"""The place of the tables and the checkpoint, in the words of each library that writes there."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from obstore.store import LocalStore, S3Store
from pydantic import SecretStr

from pipelines.addresses import is_store
from pipelines.secret_files import with_secret_files
from pipelines.settings import Settings, Store
from pipelines.settings_load import environment_name
from pipelines.store_tls import trust_in_this_process

_KEYS = {name: environment_name(f"store.{name}") for name in ("access_key", "secret_key")}
"""Fields of the settings `store` that are secret, and the environment variables that hold them."""


def storage_options(store: Store) -> dict[str, str]:
    """Options of the Delta library and Polars for the object store; hold the secrets in clear."""
    options = {"AWS_REGION": store.region, "aws_conditional_put": "etag"}
    if store.endpoint:
        options["AWS_ENDPOINT_URL"] = store.endpoint
        options["AWS_ALLOW_HTTP"] = str(store.endpoint.startswith("http://")).lower()
        options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = str(not store.path_style).lower()
    if store.access_key and store.secret_key:
        options["AWS_ACCESS_KEY_ID"] = store.access_key.get_secret_value()
        options["AWS_SECRET_ACCESS_KEY"] = store.secret_key.get_secret_value()
    return options


def store_uri(place: str) -> str:
    """A place as the Delta library and Polars write it; a folder as an absolute path.

    >>> store_uri("s3a://grid/lake"), store_uri("/srv/lake/")
    ('s3://grid/lake', '/srv/lake')
    """
    return place.rstrip("/").replace("s3a://", "s3://", 1) if is_store(place) else str(Path(place).absolute())


def object_store(place: str, store: Store) -> Any:
    """The objects below a place, as obstore has them: a folder, which is made when something is written, or a prefix.

    `store` has the keys, or none where the library looks for them of its own accord.
    """
    if not is_store(place):
        return LocalStore(Path(place).absolute(), mkdir=True)
    trust_in_this_process(store)
    bucket, _, prefix = place.partition("://")[2].partition("/")
    options: dict[str, Any] = {"region": store.region, "virtual_hosted_style_request": not store.path_style}
    if store.endpoint:
        options["endpoint"] = store.endpoint
    if store.access_key and store.secret_key:
        options["access_key_id"] = store.access_key.get_secret_value()
        options["secret_access_key"] = store.secret_key.get_secret_value()
    allow_http = bool(store.endpoint and store.endpoint.startswith("http://"))
    return S3Store(bucket, prefix=prefix.rstrip("/") or None, client_options={"allow_http": allow_http}, **options)


@dataclass(frozen=True)
class LakePlace:
    """Where the tables are, for code that runs in Spark's workers: it travels with a closure, so it holds no key."""

    root: str
    """s3://bucket/prefix, or an absolute folder that every worker reaches by this name."""
    store: Store = field(default_factory=Store)
    """Without keys."""

    @classmethod
    def of(cls, settings: Settings) -> LakePlace:
        """The place of `lake.root`."""
        return cls(store_uri(settings.lake.root), settings.store.model_copy(update=dict.fromkeys(_KEYS)))

    def objects(self, environment: Mapping[str, str] = os.environ) -> Any:
        """What is written to in this process.

        The keys are those of the environment (`GRIDWATCH_STORE__ACCESS_KEY`, or `..._FILE`), as for every program of
        ours. Without them the library looks for keys of its own accord: AWS variables, the role of the machine.
        """
        given = with_secret_files(environment, _KEYS.values())
        keys = {name: SecretStr(given[variable]) for name, variable in _KEYS.items() if given.get(variable)}
        return object_store(self.root, self.store.model_copy(update=keys))
