"""The archive's tables and checkpoint on a real store, which is busy and whose answers get lost: everything once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import start_objectstore
from pipelines.local.ports import free_port
from pipelines.readings.query import ArchiveBatch
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.tables import READINGS, REJECTED
from tests.factories import document, ms
from tests.faults.rows_outage import once_a_table
from tests.faults.store_proxy import StoreProxy
from tests.unit.readings.archiving import Killed, Steps, archive, everything, make_run, rows_of, run_with
from tests.unit.readings.archiving import steps as steps

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]

BATCHES = [{0: (4 * n, [document(timestamp=ms(60 * n + t)) for t in (1, 2, 3)] + [b"no json"])} for n in range(4)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[StoreProxy, dict[str, str]]]:
    """A proxy before a real MinIO, and the environment of a program that uses it: workers take their keys from it."""
    with start_objectstore(tmp_path_factory.mktemp("store")) as running:
        running.create_bucket("gridwatch")
        with (
            StoreProxy(free_port(), running.port, random.Random(7).random) as proxy,
            pytest.MonkeyPatch.context() as patch,
        ):
            environment = {
                "GRIDWATCH_STORE__ENDPOINT": proxy.endpoint,
                "GRIDWATCH_STORE__ACCESS_KEY": running.access_key,
                "GRIDWATCH_STORE__SECRET_KEY": running.secret_key,
            }
            for name, value in environment.items():
                patch.setenv(name, value)
            yield proxy, environment


@pytest.fixture
def settings(store: tuple[StoreProxy, dict[str, str]], request: pytest.FixtureRequest) -> Iterator[Settings]:
    """A lake and a checkpoint of the test's own in the bucket."""
    proxy, environment = store
    name = request.node.name.replace("[", "-").rstrip("]").replace(" ", "-")
    places = {
        "GRIDWATCH_LAKE__ROOT": f"s3a://gridwatch/{name}/lake",
        "GRIDWATCH_PIPELINE__CHECKPOINT": f"s3a://gridwatch/{name}/checkpoint",
    }
    yield load_settings(environment=environment | places).settings
    proxy.heal()


@pytest.fixture
def in_a_folder(tmp_path: Path, steps: Steps) -> Settings:
    """The same batches in a folder."""
    run = make_run(tmp_path)
    sink = ArchiveBatch(run)
    for number, values in enumerate(BATCHES):
        archive(run, sink, number, values)
    return run.settings


def test_a_store_that_is_busy_holds_what_a_folder_holds(
    store: tuple[StoreProxy, dict[str, str]], settings: Settings, in_a_folder: Settings
) -> None:
    run = run_with(settings)
    store[0].faults.busy_share = 0.2
    # Files of the checkpoint besides plans are read by another client, which gives up after two attempts.
    store[0].faults.busy_for = lambda method, path: any(part in path for part in ("/lake/", "/plans/", "/held/"))
    sink = ArchiveBatch(run)
    for number, values in enumerate(BATCHES):
        archive(run, sink, number, values)
    store[0].heal()
    assert store[0].answered.busy > 0
    assert everything(settings) == everything(in_a_folder)


def test_lost_replies_to_plans_and_commits_count_nothing_twice(
    store: tuple[StoreProxy, dict[str, str]], settings: Settings, in_a_folder: Settings
) -> None:
    run, proxy = run_with(settings), store[0]
    sink = ArchiveBatch(run)
    for number, values in enumerate(BATCHES):
        lost: set[str] = set()

        def lose(method: str, path: str, lost: set[str] = lost) -> bool:
            if method == "PUT" and "/plans/" in path and "plan" not in lost:
                lost.add("plan")
                return True
            return once_a_table(lost, method, path)

        proxy.faults.lose_reply_to = lose
        archive(run, sink, number, values)
        assert lost == {"plan", "readings", "rejected", "panes", "audit"}
    assert everything(settings) == everything(in_a_folder)


@pytest.mark.parametrize("death", ["after readings"])
def test_a_batch_that_died_goes_on_from_its_plan_in_the_store(settings: Settings, steps: Steps, death: str) -> None:
    run = run_with(settings)
    archive(run, sink := ArchiveBatch(run), 0, BATCHES[0])
    steps.die_at = death
    with pytest.raises(Killed):
        archive(run, sink, 1, BATCHES[1])
    archive(run, sink := ArchiveBatch(run), 1, BATCHES[1])
    archive(run, sink, 2, BATCHES[2])
    assert len(rows_of(settings, READINGS, "kafka_offset")) == 9
    assert rows_of(settings, REJECTED, "kafka_offset") == [(11,), (3,), (7,)]
