"""The lease of a checkpoint in a store: who waits for whom, over a store in memory."""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DataRefused
from pipelines.identity import lock
from pipelines.identity.lock import CheckpointLock
from pipelines.identity.store_lease import StoreLease
from pipelines.identity.store_objects import Answer
from pipelines.settings import Settings

LEASE_S = 0.4
OURS = "boot:1:2"


class Memory:
    """An object of a store that obeys conditions."""

    bucket, key = "grid", "checkpoint/gridwatch.lock"

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.tag = ""
        self.tags = map(str, itertools.count())

    def get(self) -> Answer:
        return Answer(404, "", b"") if self.body is None else Answer(200, self.tag, self.body)

    def put_new(self, body: bytes) -> Answer:
        return self._put(body) if self.body is None else Answer(412, "", b"")

    def put_over(self, tag: str, body: bytes) -> Answer:
        return self._put(body) if self.body is not None and tag == self.tag else Answer(412, "", b"")

    def delete(self) -> Answer:
        self.body = None
        return Answer(204, "", b"")

    def _put(self, body: bytes) -> Answer:
        self.body, self.tag = body, next(self.tags)
        return Answer(200, self.tag, b"")


@pytest.fixture
def place() -> Any:
    return Memory()


def lease_on(place: Any, host: str = "a") -> StoreLease:
    return StoreLease(place, {"host": host, "pid": 7, "command": "gridwatch run"}, patience_s=1, lease_s=LEASE_S)


def seconds(action: Callable[[], object]) -> float:
    began = time.monotonic()
    action()
    return time.monotonic() - began


def test_a_former_life_with_the_same_lock_file_is_not_waited_for(place: Any) -> None:
    place.put_new(json.dumps({"host": "a", "lock_file": OURS, "lease": "0"}).encode())
    heir = lease_on(place)
    assert seconds(partial(heir.acquire, OURS)) < LEASE_S
    assert json.loads(place.body)["lock_file"] == OURS
    heir.release()


@pytest.mark.parametrize(
    ("left", "lock_file"),
    [
        ({"host": "a", "lock_file": "boot:1:3"}, OURS),
        ({"host": "b", "lock_file": OURS}, OURS),
        ({"host": "a"}, OURS),
        ({"host": "a"}, None),
        ({"host": "a", "lock_file": None}, None),
    ],
    ids=["another file", "another host", "an older version", "no file at all", "no file twice"],
)
def test_any_other_is_watched_for_the_whole_lease(place: Any, left: dict[str, Any], lock_file: str | None) -> None:
    place.put_new(json.dumps({"lease": "0", **left}).encode())
    heir = lease_on(place)
    assert seconds(partial(heir.acquire, lock_file)) >= LEASE_S
    heir.release()


def test_a_living_holder_of_the_same_host_name_keeps_others_out(place: Any) -> None:
    first = lease_on(place)
    first.acquire(OURS)
    with pytest.raises(DataRefused, match=r"held by `gridwatch run`, process 7 on a: stop it first"):
        lease_on(place).acquire("boot:1:3")
    assert first.is_held
    first.release()
    assert place.body is None


@pytest.fixture
def settings(place: Any, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A checkpoint in the store in memory."""
    monkeypatch.setattr(lock, "StoreObject", lambda *_: place)
    monkeypatch.setattr(lock, "StoreLease", partial(StoreLease, lease_s=LEASE_S))
    store = {"endpoint": "http://127.0.0.1:1", "access_key": "a", "secret_key": "b"}
    return Settings.model_validate({"pipeline": {"checkpoint": "s3a://grid/checkpoint"}, "store": store})


def test_two_temporary_folders_on_one_machine_are_two_files_and_one_lease(
    settings: Settings, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user, `TMPDIR`, `PrivateTmp` of systemd, a container: the file's lock keeps them out of nothing."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "one"))
    with CheckpointLock(settings, "gridwatch run"):
        held = json.loads(place.body)["lock_file"]
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "two"))
        with pytest.raises(DataRefused, match=r"the lock s3a://grid/checkpoint/gridwatch.lock is held by"):
            CheckpointLock(settings, "gridwatch maintain").acquire()
        assert json.loads(place.body)["lock_file"] == held


def test_a_killed_holder_with_the_same_temporary_folder_is_not_waited_for(
    settings: Settings, place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with CheckpointLock(settings, "gridwatch run"):
        left = place.body
    place.put_new(left.replace(b'"lease": "', b'"lease": "former '))
    heir = CheckpointLock(settings, "gridwatch run")
    assert seconds(heir.acquire) < LEASE_S
    heir.release()
