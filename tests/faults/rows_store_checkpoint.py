"""Row 34: the checkpoint lies in the object store, and the store fails while it is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.local.minio_build import why_no_minio
from pipelines.local.processes import wait_until
from tests.faults.bench import Bench
from tests.faults.expect import NotHeld, bring_about, require
from tests.faults.matrix import Figures, row
from tests.faults.scene import Scene

_PREFIX = "checkpoint-34"
_LOGS = {f"{query}/{log}" for query in ("archive", "windows") for log in ("offsets", "commits")}
_WRITES = ("PUT", "POST", "DELETE")


@row(34, "checkpoint in the store: 503, refused writes, lost replies", "0 lost, 0 duplicates; goes on by itself")
def checkpoint_in_an_unwilling_store(bench: Bench) -> Figures:
    """Faults meet the checkpoint's objects alone, so that the tables are not what is tried here (rows 17 to 19)."""
    problem = why_no_minio()
    if problem:
        raise NotHeld(f"not tried: {problem}")
    scene, proxy = _scene(bench), bench.store_proxy
    scene.traffic.send_polls(5)
    figures: Figures = {"healthy": scene.catch_up(300)}
    before = proxy.answered.busy
    with _busy(bench, 0.3), scene.traffic.running(2):
        time.sleep(8 if bench.short else 60)
    figures["busy"] = scene.settle(300) | {"busy_answers": proxy.answered.busy - before}
    require(proxy.answered.busy > before, "no request for the checkpoint was answered with 503")
    figures["lost_replies"] = _lose_replies(bench, scene)
    figures["refused"] = _refuse_writes(bench, scene, 20 if bench.short else 120)
    figures["killed"] = _kill_amid_refusals(bench, scene)
    scene.close()
    return figures


def _scene(bench: Bench) -> Scene:
    return bench.scene(
        "checkpoint-in-store",
        lake__root="s3a://gridwatch/lake-34", pipeline__checkpoint=f"s3a://gridwatch/{_PREFIX}",
        store__endpoint=bench.store_proxy.endpoint, store__access_key=bench.store.access_key,
        store__secret_key=bench.store.secret_key,
    )  # fmt: skip


@contextmanager
def _busy(bench: Bench, share: float) -> Iterator[None]:
    """This share of the writes below the checkpoint is answered with 503 for the time of the block."""
    faults = bench.store_proxy.faults
    faults.busy_for = lambda method, path: method in _WRITES and log_of(path) is not None
    faults.busy_share = share
    try:
        yield
    finally:
        bench.store_proxy.heal()


def _lose_replies(bench: Bench, scene: Scene) -> Figures:
    """The reply to the write that makes a batch's file is lost after it was done, once in each log of each query."""
    lost: set[str] = set()
    bench.store_proxy.faults.lose_reply_to = lambda method, path: once_a_log(lost, method, path)
    scene.traffic.send_polls(40, per_second=4)
    found = scene.settle(300)
    bench.store_proxy.heal()
    require(lost >= _LOGS, f"logs whose replies were lost: {sorted(lost)}")
    return found | {"replies_lost_to": sorted(lost)}


def _refuse_writes(bench: Bench, scene: Scene, seconds: float) -> Figures:
    """No write to the checkpoint is taken for a while: whatever the queries do then, nothing may be skipped."""
    with _busy(bench, 1.0), scene.traffic.running(2):
        time.sleep(seconds)
    return scene.settle(600)


def _kill_amid_refusals(bench: Bench, scene: Scene) -> Figures:
    """kill -9 while a batch waits for the store to take its entry."""
    answered = bench.store_proxy.answered
    before = answered.busy
    with _busy(bench, 1.0):
        scene.traffic.send_polls(5)
        bring_about(wait_until(lambda: answered.busy > before, 60), "no write to the checkpoint was refused")
        scene.kill()
    return scene.settle(300)


def log_of(path: str) -> str | None:
    """Query and log that a request is for, `archive/offsets`; None when it is for something else of the store.

    >>> log_of("/gridwatch/checkpoint-34/archive/offsets/.7.tmp?uploads"), log_of("/gridwatch/lake-34/audit/x")
    ('archive/offsets', None)
    """
    _, found, below = path.partition("?")[0].partition(f"/{_PREFIX}/")
    parts = below.split("/")
    return "/".join(parts[:2]) if found and len(parts) > 2 else None


def once_a_log(lost: set[str], method: str, path: str) -> bool:
    """Whether a request makes a batch's file, not its draft, in a log that is not in `lost`; the log then is."""
    name = log_of(path)
    is_batch = path.partition("?")[0].rpartition("/")[2].isdecimal()
    if method != "PUT" or not is_batch or name not in _LOGS or name in lost:
        return False
    lost.add(name)
    return True
