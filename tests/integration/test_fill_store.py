"""Panes of a new generation with tables and checkpoint in a real MinIO: filled, held back, released, deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import RunningObjectStore, start_objectstore
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.tables import PANES
from pipelines.upkeep import look_after
from pipelines.windows.fill import ensure_filled, held_panes
from tests.older_lakes import at, filled, minutes, older_lake, run_of

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningObjectStore]:
    with start_objectstore(tmp_path_factory.mktemp("objectstore")) as running:
        running.create_bucket("lake")
        yield running


@pytest.fixture
def settings(store: RunningObjectStore) -> Settings:
    environment = {
        "GRIDWATCH_LAKE__ROOT": "s3a://lake/tables",
        "GRIDWATCH_PIPELINE__CHECKPOINT": "s3a://lake/checkpoint",
        "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
        "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
        "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
    }
    return load_settings(environment=environment).settings


def test_a_generation_is_filled_and_holds_back_in_the_store(settings: Settings) -> None:
    older_lake(settings)
    run = run_of(settings)
    held = ensure_filled(run)
    assert ensure_filled(run) == held
    assert filled(settings) == minutes(*range(8))
    keeper = held_panes(settings, run.folder("held"))
    keeper.hold(keeper.release(held, after_ms=None, up_to_ms=ms(570)), 0)
    assert keeper.tidy(held) == 1
    later = keeper.release(held, after_ms=None, up_to_ms=ms(600))
    assert dict(later.select("pane_start", "n").iter_rows()) == minutes(8, 9)
    assert keeper.tidy([]) == 1
    assert look_after(settings, PANES, now=time.time() + 3 * 86_400).expired_files == 1
    assert filled(settings) == {}


def ms(second: float) -> int:
    return round(at(second).timestamp() * 1000)
