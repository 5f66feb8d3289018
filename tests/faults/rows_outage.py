"""Rows 12, 13 and 17 to 19: broker or store away, slow, or unwilling."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipelines.errors import InfrastructureUnavailable
from pipelines.local.minio_build import why_no_minio
from pipelines.local.processes import wait_until
from tests.faults.bench import Bench
from tests.faults.expect import NotHeld, last_words, require
from tests.faults.matrix import Figures, row
from tests.faults.scene import START_S, Scene
from tests.integration.support import text_of


def _store_scene(bench: Bench) -> Scene:
    problem = why_no_minio()
    if problem:
        raise NotHeld(f"not tried: {problem}")
    return bench.on_store


@row(12, "broker stopped or killed for 5-90 s", "pause, no loss, at most one restart", short=True)
def broker_away(bench: Bench) -> Figures:
    """Once in order, once by kill -9, under traffic; the pipeline is supervised."""
    scene, figures = bench.main, {}
    outages = (("killed", 20),) if bench.short else (("stopped", 5), ("killed", 20), ("killed", 90))
    for how, seconds in outages:
        child = scene.running()
        before = scene.restarts_of(child)
        with scene.traffic.running():
            time.sleep(2)
            end = bench.broker.stop if how == "stopped" else bench.broker.kill
            end()
            time.sleep(seconds)
            bench.broker.start()
            time.sleep(2)
        amid = scene.restarts_of(child) - before
        if not child.is_running():
            code = scene.ended(child, 1)
            require(code == InfrastructureUnavailable.exit_code, f"ended with {code}: {last_words(child)}")
            amid += 1
        found = scene.settle(300)
        restarts = amid + found["restarts"]
        require(restarts <= 1, f"{restarts} restarts for one outage of {seconds} s")
        figures[f"{how}_{seconds}_s"] = found
    return figures


@row(13, "broker or store not there at start", "retries with backoff, clear message")
def away_at_the_start(bench: Bench) -> Figures:
    """Both come while the pipeline waits."""
    scene = bench.main
    scene.stop()
    bench.proxy.refuse()
    figures = {"broker": _comes_late(scene, "waiting for Kafka", bench.proxy.heal)}
    scene.traffic.send_polls(3)
    figures |= scene.settle()
    stored = _store_scene(bench)
    stored.stop()
    bench.store_proxy.faults.refuse = True
    figures["store"] = _comes_late(stored, "waiting for the store", bench.store_proxy.heal)
    return figures


def _comes_late(scene: Scene, says: str, come: Callable[[], None]) -> int:
    """How often it said that it waits."""
    child = scene.start()
    said = wait_until(lambda: text_of(child.log).count(says) >= 3 or not child.is_running(), 60)
    require(said and child.is_running(), f"did not wait: {last_words(child)}")
    come()
    scene.wait_ready(child, START_S)
    return text_of(child.log).count(says)


@row(17, "store down 10 s, 60 s, 10 min", "stall or restart, no loss", short=True)
def store_down(bench: Bench) -> Figures:
    """MinIO itself ends by kill -9 and comes back on its data."""
    scene, figures = _store_scene(bench), {}
    for seconds in (10,) if bench.short else (10, 60, 600):
        scene.traffic.send_polls(5)
        scene.catch_up(300, whole=False)
        with scene.traffic.running(2 if seconds < 100 else 0.2):
            time.sleep(2)
            bench.store.kill()
            _supervised_pause(scene, seconds)
            bench.store.start()
        figures[f"{seconds}_s"] = scene.settle(300)
    return figures


def _supervised_pause(scene: Scene, seconds: float) -> None:
    """Time passes; a pipeline that gives up is started again with a pause, as a supervisor does."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(min(1.0, max(0.0, deadline - time.monotonic())))
        child = scene.pipeline
        if child is not None and not child.is_running():
            code = child.kill()
            require(code == 4, f"ended with {code} instead of 4: {last_words(child)}")
            time.sleep(min(5.0, max(0.0, deadline - time.monotonic())))
            scene.start()


@row(18, "store slow, 503, reply lost on a commit", "no double commit", short=True)
def store_unwilling(bench: Bench) -> Figures:
    """Each answer late; one in ten is 503; then the reply to one commit of each table is lost after it was done."""
    scene = _store_scene(bench)
    proxy, figures = bench.store_proxy, {}
    scene.traffic.send_polls(5)
    scene.catch_up(300, whole=False)
    for name, faults in (("slow", {"delay_s": 0.15}), ("busy", {"busy_share": 0.1})):
        for field, value in faults.items():
            setattr(proxy.faults, field, value)
        with scene.traffic.running(2):
            time.sleep(8 if bench.short else 30)
        proxy.heal()
        figures[name] = scene.catch_up(300)
    figures["busy_answers"] = proxy.answered.busy
    lost: set[str] = set()
    proxy.faults.lose_reply_to = lambda method, path: once_a_table(lost, method, path)
    scene.traffic.send_polls(40, per_second=4)
    figures["lost_replies"] = scene.settle(300)
    figures["replies_lost_to_commits_of"] = sorted(lost)
    require({"readings", "audit", "meter_windows"} <= lost, f"commits met: {sorted(lost)}")
    return figures


def once_a_table(lost: set[str], method: str, path: str) -> bool:
    """Whether a request is the first commit to a table that is not in `lost`; it then is."""
    parts = path.partition("?")[0].split("/")
    if method != "PUT" or "_delta_log" not in parts or not parts[-1].endswith(".json"):
        return False
    table = parts[parts.index("_delta_log") - 1]
    if table in lost:
        return False
    lost.add(table)
    return True


@row(19, "store's disk full, or access refused", "loud failure, resumes after the fix")
def store_refuses(bench: Bench) -> Figures:
    """Every write is answered with 507, then with 403; the pipeline must end or say so, and go on afterwards."""
    scene, figures = _store_scene(bench), {}
    proxy = bench.store_proxy
    for name in ("full", "denied"):
        scene.traffic.send_polls(3)
        scene.catch_up(300, whole=False)
        child = scene.running()
        before = len(text_of(child.log))
        if name == "full":
            proxy.faults.full = True
        else:
            proxy.faults.deny = lambda method, path: method in ("PUT", "POST")
        scene.traffic.send_polls(3)
        signs = ("507", "StorageFull", "XMinio") if name == "full" else ("403", "AccessDenied", "Forbidden")
        loud = wait_until(partial(_says, child.log, before, signs), 180, poll_s=0.2)
        require(loud, f"silent about a store that refuses ({name}): {last_words(child)}")
        ended = child.wait(180)
        code = child.kill() if ended else None
        require(code in (None, 4), f"ended with {code} instead of 4: {last_words(child)}")
        figures[name] = f"ended with {code}: {last_words(child)}" if ended else "went on trying"
        proxy.heal()
        figures[f"after_{name}"] = scene.settle(300)
    return figures


def _says(log: Path, after: int, signs: Sequence[str]) -> bool:
    return any(sign in text_of(log)[after:] for sign in signs)
