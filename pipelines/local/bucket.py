"""Make the bucket the lake lives in; `python -m pipelines.local.bucket` does it for docker compose."""

from __future__ import annotations

import sys

from pyarrow.fs import S3FileSystem

from pipelines.errors import GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.settings import Settings, Store
from pipelines.settings_load import load_settings

_PREFIX = "s3a://"


def ensure_bucket(store: S3FileSystem, name: str, *, where: str) -> None:
    """Make the bucket unless it exists; `store` must allow it.

    Raises InfrastructureUnavailable, naming `where`, when the store cannot be reached or refuses.
    """
    try:
        store.create_dir(name)
    except OSError as problem:
        raise InfrastructureUnavailable(f"bucket {name!r} not created at {where}: {problem}") from problem


def store_filesystem(
    endpoint: str, access_key: str, secret_key: str, region: str, *, allow_bucket_creation: bool = False
) -> S3FileSystem:
    """The object store as pyarrow reads and writes it; paths are `bucket/key`."""
    scheme, _, address = endpoint.rpartition("://")
    return S3FileSystem(
        access_key=access_key,
        secret_key=secret_key,
        endpoint_override=address,
        scheme=scheme or "http",
        region=region,
        allow_bucket_creation=allow_bucket_creation,
    )


def bucket_of(root: str) -> str:
    """Bucket of a lake's root. Raises SettingsError when the root is a folder.

    >>> bucket_of("s3a://gridwatch/lake")
    'gridwatch'
    """
    bucket = root.removeprefix(_PREFIX).partition("/")[0]
    if not root.startswith(_PREFIX) or not bucket:
        raise SettingsError(f"lake.root = {root!r} names no bucket: give it as s3a://bucket/prefix")
    return bucket


def make_lake_bucket(settings: Settings) -> None:
    """Make the bucket of `lake.root` in the configured store. Raises SettingsError when there is none."""
    bucket = bucket_of(settings.lake.root)
    endpoint, access_key, secret_key = _credentials(settings.store)
    store = store_filesystem(endpoint, access_key, secret_key, settings.store.region, allow_bucket_creation=True)
    ensure_bucket(store, bucket, where=endpoint)


def _credentials(store: Store) -> tuple[str, str, str]:
    if not (store.endpoint and store.access_key and store.secret_key):
        raise SettingsError(
            "store.endpoint and both keys are needed to make a bucket: set GRIDWATCH_STORE__ENDPOINT,"
            " GRIDWATCH_STORE__ACCESS_KEY and GRIDWATCH_STORE__SECRET_KEY"
        )
    return store.endpoint, store.access_key.get_secret_value(), store.secret_key.get_secret_value()


def main() -> int:
    """Exit code of the command; an error is one line on standard error."""
    try:
        make_lake_bucket(load_settings().settings)
    except GridwatchError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
