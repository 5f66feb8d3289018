"""The bucket of a lake's root."""

from __future__ import annotations

import pytest

from pipelines.errors import SettingsError
from pipelines.local.bucket import bucket_of, make_lake_bucket
from pipelines.settings_load import load_settings


@pytest.mark.parametrize("root", ["s3a://gridwatch", "s3a://gridwatch/", "s3a://gridwatch/a/b"])
def test_the_bucket_is_the_first_part_of_the_root(root: str) -> None:
    assert bucket_of(root) == "gridwatch"


@pytest.mark.parametrize("root", ["lake", "/lake", "s3://gridwatch/lake", "s3a://", "s3a:///lake"])
def test_a_root_without_a_bucket_is_refused(root: str) -> None:
    with pytest.raises(SettingsError, match="names no bucket"):
        bucket_of(root)


def test_a_store_without_keys_is_refused_before_it_is_called() -> None:
    settings = load_settings(environment={"GRIDWATCH_LAKE__ROOT": "s3a://gridwatch/lake"}).settings
    with pytest.raises(SettingsError, match="GRIDWATCH_STORE__SECRET_KEY"):
        make_lake_bucket(settings)
