"""Rows 33, 35 and 36: a batch that is broken off between its commits, a worker that dies, offsets without records."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kafka import KafkaProducer

from benchmarks.trees import descendants, processes
from pipelines.alerts.group import committed
from pipelines.local.minio_build import why_no_minio
from pipelines.local.processes import wait_until
from pipelines.topics import client_options
from tests.faults.bench import Bench
from tests.faults.expect import NotHeld, bring_about, require
from tests.faults.matrix import Figures, row
from tests.faults.rows_kill import send_spike
from tests.faults.scene import Scene
from tests.integration.rest import Rest
from tests.integration.support import text_of

_LAKE, _CHECKPOINT = "lake-33", "checkpoint-33"
COMMITS = ("plan", "readings", "rejected", "panes", "audit")
"""What a batch writes, in this order; Kafka comes last."""
_SHORT = ("readings",)
"""In short: the plan is there, a part of its tables has it."""
_OTHERWISE = {
    "GRIDWATCH_PIPELINE__MAX_OFFSETS_PER_TRIGGER": "100",
    "GRIDWATCH_INPUT__FIELDS__VOLTAGE_SCALE": "3",
    "GRIDWATCH_DETECTION__INTERRUPTION_PU": "0.05",
}
"""Another batch size, another mapping, other limits: a batch that is planned must not notice."""
_LOST_TASK = re.compile(r"Lost task \d+\.\d+ in stage")


@row(
    33,
    "kill between every two commits of a batch, then restart with another mapping, limits, batch size",
    "0 lost, 0 duplicates, windows equal to the model",
    short=True,
)
def kill_between_commits(bench: Bench) -> Figures:
    """The store has done a commit and the reply never comes, so the batch stands between this commit and the next."""
    if problem := why_no_minio():
        raise NotHeld(f"not tried: {problem}")
    scene = bench.scene(
        "between-commits",
        lake__root=f"s3a://gridwatch/{_LAKE}", pipeline__checkpoint=f"s3a://gridwatch/{_CHECKPOINT}",
        store__endpoint=bench.store_proxy.endpoint, store__access_key=bench.store.access_key,
        store__secret_key=bench.store.secret_key,
    )  # fmt: skip
    figures: Figures = {}
    for commit in _SHORT if bench.short else COMMITS:
        figures[commit] = _break_off(bench, scene, commit)
    scene.close()
    return figures


def _break_off(bench: Bench, scene: Scene, commit: str) -> Figures:
    """One batch with something for each table; what has no plan yet is begun again, so it may be any batch."""
    scene.traffic.send_polls(3)
    scene.catch_up(300)
    bring_about(wait_until(Rest(scene.direct, quiet_s=5), 120, poll_s=0.2), "the queries do not come to rest")
    faults, before = bench.store_proxy.faults, len(bench.store_proxy.answered.held)
    faults.hold_reply_to = lambda method, path: commit_of(method, path) == commit
    scene.traffic.send_values([("m-000", b"no json")])
    spike = send_spike(scene)
    held = wait_until(lambda: len(bench.store_proxy.answered.held) > before, 60, poll_s=0.02)
    bring_about(held, f"no commit of {commit} came")
    # The alerts judge by their own settings: what they have judged under the right ones must be committed.
    ends = scene.ends()
    judged = wait_until(
        lambda: scene.has_anomaly_of(spike) and committed(scene.direct.settings) == ends, 30, poll_s=0.1
    )
    bring_about(judged, "the alerts did not judge and commit in time")
    scene.kill()
    bench.store_proxy.heal()
    scene.wait_ready(scene.start(more=_OTHERWISE))
    done = wait_until(lambda: scene.has_archived(ends), 120, poll_s=0.3)
    require(done, f"the batch broken off after {commit} was not archived within 120 s of the restart")
    scene.stop()
    return scene.settle(300)


def commit_of(method: str, path: str) -> str | None:
    """What a request commits: `plan` or the name of a table; None when it commits nothing.

    >>> commit_of("PUT", "/gridwatch/lake-33/audit/_delta_log/00000000000000000007.json")
    'audit'
    >>> commit_of("PUT", "/gridwatch/checkpoint-33/plans/7.json")
    'plan'
    """
    name = path.partition("?")[0]
    if method not in ("PUT", "POST") or not name.endswith(".json"):
        return None
    if f"/{_CHECKPOINT}/" in name and "/plans/" in name:
        return "plan"
    table, found, _ = name.partition(f"/{_LAKE}/")[2].partition("/_delta_log/")
    return table if found else None


@row(
    35,
    "a worker killed, a task tried again",
    "no row twice, none lost; a difference fails the batch",
)
def kill_workers(bench: Bench) -> Figures:
    """kill -9 to Spark's Python workers under traffic, with a master that tries a task three times."""
    scene = bench.scene("workers", pipeline__master="local[2,3]")
    wanted, killed = (3 if bench.short else 20), 0
    rng = bench.rng(35)
    child = scene.running()
    with scene.traffic.running(20):
        deadline = time.monotonic() + 60 * wanted
        while killed < wanted and time.monotonic() < deadline:
            child.wait(rng.uniform(0.2, 2))
            require(child.is_running(), "the pipeline ended")
            killed += _kill_one(workers_of(child.pid), rng.choice)
    bring_about(killed >= wanted, f"{killed} of {wanted} workers were there to be killed")
    lost = len(_LOST_TASK.findall(text_of(child.log)))
    found = scene.settle(300)
    return {"workers_killed": killed, "tasks_lost": lost, **found}


def workers_of(pid: int) -> list[int]:
    """Spark's Python workers below a process: children of a daemon that forks them."""
    known = processes()
    below = descendants(pid, {number: one.parent for number, one in known.items()})
    daemons = {number for number in below if "pyspark.daemon" in _command(number)}
    return [number for number in daemons if known[number].parent in daemons]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _kill_one(pids: list[int], choose: Callable[[list[int]], int]) -> int:
    if not pids:
        return 0
    with suppress(ProcessLookupError):
        os.kill(choose(pids), signal.SIGKILL)
        return 1
    return 0


@row(36, "aborted transactions, markers at the end", "read committed; `verify` tells markers from losses")
def transactions(bench: Bench) -> Figures:
    """Committed and aborted transactions among other records, an open one that is aborted later, and markers last."""
    scene = bench.scene("transactions")
    scene.running()
    aborted = 0
    for number in range(3 if bench.short else 20):
        scene.traffic.send_polls(2)
        aborted += _transact(scene, f"aborted-{number}", commits=False)
        _transact(scene, f"committed-{number}", commits=True)
    figures = scene.settle(300)
    _transact(scene, "last", commits=True)
    aborted += _transact(scene, "last-aborted", commits=False)
    scene.catch_up(300, whole=False)
    report = scene.direct.verify()
    require(report.ok, report.verdict)
    require(report.lag == 0, f"markers at the end count as a lag of {report.lag}")
    require(not _stored(scene, b"aborted"), "a record of an aborted transaction was stored")
    return {"aborted_records": aborted, **figures, "at_the_end": scene.check()}


def _transact(scene: Scene, name: str, *, commits: bool) -> int:
    """Three records that are no readings in a transaction of its own; returns how many."""
    topic, kafka = scene.direct.settings.kafka.topics.readings, scene.direct.settings.kafka
    producer = KafkaProducer(**client_options(kafka), transactional_id=f"{topic}-{name}")
    producer.init_transactions()
    producer.begin_transaction()
    values = [b"%s %d" % (b"committed" if commits else b"aborted", n) for n in range(3)]
    for value in values:
        producer.send(topic, value, partition=0)
    if commits:
        producer.commit_transaction()
    else:
        producer.flush()
        producer.abort_transaction()
    producer.close()
    return len(values)


def _stored(scene: Scene, text: bytes) -> bool:
    (found,) = scene.direct.ask(f"SELECT count(*) FROM rejected WHERE hex(value) LIKE '{text.hex().upper()}%'")
    return bool(found[0])
