"""The object store is a real MinIO: data survive a crash, keys are secret, and nothing runs on afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow.fs import FileType, S3FileSystem

from pipelines.local.bucket import make_lake_bucket
from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import (
    REGION,
    RunningObjectStore,
    credentials_file,
    start_detached_objectstore,
    start_objectstore,
    stop_detached_objectstore,
)
from pipelines.local.ports import is_open
from pipelines.settings_load import load_settings

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningObjectStore]:
    with start_objectstore(tmp_path_factory.mktemp("objectstore")) as running:
        running.create_bucket("lake")
        yield running


def write(store: RunningObjectStore, path: str, content: bytes) -> None:
    with store.filesystem().open_output_stream(path) as stream:
        stream.write(content)


def test_objects_are_read_back_after_a_crash_with_the_same_address_and_keys(
    store: RunningObjectStore,
) -> None:
    write(store, "lake/table/part-0", b"rows")
    endpoint = store.endpoint
    store.kill()
    assert not is_open(store.port)
    store.restart()
    assert store.endpoint == endpoint
    assert store.filesystem().open_input_stream("lake/table/part-0").read() == b"rows"


def test_making_a_bucket_that_exists_changes_nothing(store: RunningObjectStore) -> None:
    write(store, "lake/kept", b"1")
    store.create_bucket("lake")
    assert store.filesystem().get_file_info("lake/kept").type == FileType.File


def test_other_keys_are_refused(store: RunningObjectStore) -> None:
    stranger = S3FileSystem(
        access_key="gridwatch-0000",
        secret_key="not-the-secret",
        endpoint_override=store.address,
        scheme="http",
        region=REGION,
    )
    with pytest.raises(OSError, match=r"(?i)access|forbidden|key"):
        stranger.open_output_stream("lake/x").close()


def test_the_keys_stand_in_no_log_and_in_no_text_of_the_store(store: RunningObjectStore) -> None:
    for text in (store.log.read_text(), repr(store), str(store)):
        assert store.secret_key not in text
        assert store.access_key not in text


def test_a_detached_store_leaves_its_keys_to_its_owner_only_until_it_is_stopped(tmp_path: Path) -> None:
    store = start_detached_objectstore(tmp_path)
    keys = credentials_file(tmp_path)
    assert keys.stat().st_mode & 0o777 == 0o600
    assert f"GRIDWATCH_STORE__SECRET_KEY={store.secret_key}" in keys.read_text()
    assert stop_detached_objectstore(tmp_path)
    assert not keys.exists()
    assert not is_open(store.port)
    assert not stop_detached_objectstore(tmp_path)
    store.stop()


def test_the_bucket_of_the_lake_is_made_from_the_settings_alone(store: RunningObjectStore) -> None:
    """What docker compose runs before the pipeline."""
    environment = {
        "GRIDWATCH_LAKE__ROOT": "s3a://from-settings/lake",
        "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
        "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
        "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
    }
    make_lake_bucket(load_settings(environment=environment).settings)
    assert store.filesystem().get_file_info("from-settings").type == FileType.Directory
