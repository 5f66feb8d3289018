"""The lock of a checkpoint in the store, against a real MinIO, with and without a proxy that loses replies."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.identity.lock import CheckpointLock
from pipelines.identity.store_lease import StoreLease
from pipelines.identity.store_objects import StoreObject
from pipelines.local.minio_build import why_no_minio
from pipelines.local.objectstore import RunningObjectStore, start_objectstore
from pipelines.local.ports import free_port
from pipelines.local.processes import wait_until
from pipelines.settings import Settings, Store
from tests.faults.store_proxy import StoreProxy

NO_MINIO = why_no_minio()
pytestmark = [pytest.mark.minio, pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO))]
LEASE_S = 1.2
"""Short enough to wait for its end, long enough to be renewed in time on a slow machine."""


@pytest.fixture(scope="module")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningObjectStore]:
    with start_objectstore(tmp_path_factory.mktemp("objectstore")) as running:
        running.create_bucket("gridwatch")
        yield running


@pytest.fixture
def proxy(minio: RunningObjectStore) -> Iterator[StoreProxy]:
    with StoreProxy(free_port(), minio.port, random.Random(1).random) as made:
        yield made


def store_at(endpoint: str, minio: RunningObjectStore) -> Store:
    return Store.model_validate({"endpoint": endpoint, "access_key": minio.access_key, "secret_key": minio.secret_key})


def lock_object(minio: RunningObjectStore, name: str, endpoint: str | None = None) -> StoreObject:
    return StoreObject(store_at(endpoint or minio.endpoint, minio), "gridwatch", f"check point/{name}.lock")


def lease(place: StoreObject, host: str, **more: Any) -> StoreLease:
    return StoreLease(
        place, {"host": host, "pid": 7, "command": "gridwatch run"}, patience_s=5, lease_s=LEASE_S, **more
    )


def left_by_a_dead_one(place: StoreObject) -> None:
    place.put_new(b'{"host": "a", "lease": "0", "pid": 7, "command": "gridwatch run"}')


def test_conditions_are_judged_by_the_store(minio: RunningObjectStore) -> None:
    place = lock_object(minio, "conditions")
    first = place.put_new(b"1")
    assert (first.status, place.put_new(b"2").status, place.get().body) == (200, 412, b"1")
    second = place.put_over(first.tag, b"3")
    assert (second.status, place.put_over(first.tag, b"4").status, place.get().body) == (200, 412, b"3")
    place.delete()
    assert (place.get().status, place.put_over(second.tag, b"5").status in (404, 412)) == (404, True)


def test_a_living_holder_on_another_machine_keeps_others_out_and_gives_back(minio: RunningObjectStore) -> None:
    place = lock_object(minio, "living")
    first, second = lease(place, "a"), lease(place, "b")
    first.acquire()
    with pytest.raises(DataRefused, match=r"held by `gridwatch run`, process 7 on a: stop it first"):
        second.acquire()
    first.release()
    assert place.get().status == 404
    second.acquire()
    second.release()


def test_a_dead_holders_lease_is_taken_over_when_it_has_run_out(minio: RunningObjectStore) -> None:
    place = lock_object(minio, "dead")
    left_by_a_dead_one(place)
    began = time.monotonic()
    heir = lease(place, "b")
    heir.acquire()
    assert time.monotonic() - began >= LEASE_S
    heir.release()


def test_who_has_the_dead_ones_lock_file_does_not_wait(minio: RunningObjectStore) -> None:
    place = lock_object(minio, "restart")
    place.put_new(b'{"host": "a", "lock_file": "boot:1:2", "lease": "0"}')
    began = time.monotonic()
    heir = lease(place, "a")
    heir.acquire("boot:1:2")
    assert time.monotonic() - began < LEASE_S
    heir.release()


def test_of_many_that_wait_for_a_dead_one_one_gets_it(minio: RunningObjectStore) -> None:
    place = lock_object(minio, "many")
    left_by_a_dead_one(place)
    held: list[StoreLease] = []
    refused: list[DataRefused] = []

    def try_it(number: int) -> None:
        mine = lease(place, f"machine-{number}")
        try:
            mine.acquire()
            held.append(mine)
        except DataRefused as problem:
            refused.append(problem)

    threads = [threading.Thread(target=try_it, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (len(held), len(refused)) == (1, 4)
    held[0].release()


def test_a_holder_that_was_overtaken_is_told_and_leaves_the_other_alone(minio: RunningObjectStore) -> None:
    place, told = lock_object(minio, "overtaken"), threading.Event()
    mine = lease(place, "a", lost=told.set)
    mine.acquire()
    place.delete()
    left_by_a_dead_one(place)
    assert told.wait(10)
    mine.release()
    assert b'"lease": "0"' in place.get().body


def test_lost_replies_and_an_outage_do_not_cost_the_lease(minio: RunningObjectStore, proxy: StoreProxy) -> None:
    """A reply is lost after the write was done: the next one meets a tag of its own making."""
    told = threading.Event()
    place = lock_object(minio, "outage", proxy.endpoint)
    once = iter([True])
    proxy.faults.lose_reply_to = lambda method, path: method == "PUT" and next(once, False)
    mine = lease(place, "a", lost=told.set)
    mine.acquire()
    again = iter([True])
    proxy.faults.lose_reply_to = lambda method, path: method == "PUT" and next(again, False)
    assert wait_until(lambda: len(proxy.answered.lost) == 2, 10)
    proxy.faults.refuse = True
    time.sleep(2 * LEASE_S)
    proxy.heal()
    before = place.get().tag
    assert wait_until(lambda: place.get().tag != before, 10), "renewed again"
    assert not told.is_set()
    mine.release()


def test_a_store_that_is_away_or_has_no_bucket_is_said_in_one_line(minio: RunningObjectStore) -> None:
    nowhere = lock_object(minio, "away", f"http://127.0.0.1:{free_port()}")
    bucketless = StoreObject(store_at(minio.endpoint, minio), "no-such-bucket", "gridwatch.lock")
    for place, says in ((nowhere, "refused"), (bucketless, "there is no bucket no-such-bucket")):
        with pytest.raises(InfrastructureUnavailable, match=says):
            StoreLease(place, {}, patience_s=0).acquire()


def test_the_lock_of_a_checkpoint_in_the_store_lies_beside_it(minio: RunningObjectStore, tmp_path: Path) -> None:
    settings = Settings.model_validate(
        {
            "pipeline": {"checkpoint": "s3a://gridwatch/one/checkpoint"},
            "lake": {"root": "s3a://gridwatch/one/lake"},
            "store": store_at(minio.endpoint, minio).model_dump(),
        }
    )
    place = StoreObject(settings.store, "gridwatch", "one/checkpoint/gridwatch.lock")
    with CheckpointLock(settings, "gridwatch run"):
        assert b'"command": "gridwatch run"' in place.get().body
        with pytest.raises(DataRefused, match="in use by `gridwatch run`"):
            CheckpointLock(settings, "gridwatch maintain").acquire()
    assert place.get().status == 404
    place.put_new(b'{"host": "elsewhere", "lease": "0"}')
    renewer = threading.Timer(
        1.0, lambda: place.put_over(place.get().tag, b'{"host": "elsewhere", "lease": "0", "n": 1}')
    )
    renewer.start()
    with pytest.raises(DataRefused, match="on elsewhere"):
        CheckpointLock(settings, "gridwatch run").acquire()
    renewer.join()
