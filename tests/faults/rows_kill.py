"""Rows 1 to 5: the process ends, at any moment."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from pathlib import Path

from pipelines.local.processes import wait_until
from tests.faults.bench import Bench
from tests.faults.expect import bring_about, newest, require
from tests.faults.kafka_proxy import PRODUCE
from tests.faults.matrix import Figures, row
from tests.faults.scene import Scene
from tests.faults.tables import recoveries
from tests.faults.traffic import SPIKE, SPIKE_V, Sent
from tests.integration.rest import Rest

_SNAPSHOTS = (
    "-XX:TieredStopAtLevel=1 -Dspark.sql.streaming.stateStore.minDeltasForSnapshot=2"
    " -Dspark.sql.streaming.stateStore.maintenanceInterval=500ms"
)


@row(
    1,
    "kill -9 the pipeline at random moments",
    "0 lost, 0 duplicates in Delta, Kafka repeats carry the same ids",
    short=True,
)
def kill_at_random(bench: Bench) -> Figures:
    """One kill in five falls into the start, two into the first batches, two after something was stored; traffic never
    pauses."""
    scene, rng = bench.main, bench.rng(1)
    kills = []
    scene.stop()
    with scene.traffic.running():
        for number in range(1, bench.kills + 1):
            moment = _live_until_killed(scene, rng)
            kills.append(scene.kill())
            bench.say(f"row 1: kill {number} of {bench.kills}, {moment}")
    figures = scene.settle(300 + 10 * bench.kills)  # each life leaves a backlog that the next is not given the time for
    return {"kills": bench.kills, **_spread(recoveries(scene.direct, kills)), **figures}


def _live_until_killed(scene: Scene, rng: random.Random) -> str:
    child, before, dice = scene.start(), scene.audited(), rng.random()
    if dice < 0.2:
        moment = rng.uniform(0.5, 8)
        child.wait(moment)
        return f"{moment:.1f} s after its start"
    scene.wait_ready(child)
    if dice > 0.6:
        wait_until(lambda: scene.audited() != before or not child.is_running(), 60, poll_s=0.05)
    moment = rng.uniform(0.1, 5)
    require(not child.wait(moment), f"ended by itself, see {child.log}")
    return f"{moment:.1f} s into its batches"


def _spread(found: list[tuple[float, float | None]]) -> Figures:
    firsts, caught_up = [first for first, _ in found], [at for _, at in found if at is not None]
    columns = {"recovery_first_output_s": firsts, "recovery_caught_up_s": caught_up}
    return {name: quantiles(values) for name, values in columns.items() if values}


def quantiles(values: Sequence[float]) -> Figures:
    """p50, p95 and max in seconds, and how many there are."""
    ranked = sorted(values)
    at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {name: round(ranked[round(share * (len(ranked) - 1))], 2) for name, share in at.items()} | {"n": len(ranked)}


def send_spike(scene: Scene) -> Sent:
    """One reading that must raise an anomaly."""
    meter = scene.traffic.meters[0]
    value = scene.traffic.reading(meter, voltage=SPIKE_V)
    return scene.traffic.send_values([(meter, value)], kind=SPIKE)[0]


def _come_to_rest(scene: Scene) -> None:
    """No query has work: a batch of another one that waits for its reply would keep a task slot from the archive."""
    scene.traffic.send_polls(3)
    scene.catch_up()
    bring_about(wait_until(Rest(scene.direct, quiet_s=5), 120, poll_s=0.2), "the queries do not come to rest")


@row(2, "kill between the Delta commit and the Kafka send", "the anomaly reaches Kafka after restart", short=True)
def kill_before_the_send(bench: Bench) -> Figures:
    """The proxy holds every Produce request back, so what is in Delta is not in Kafka when the kill comes."""
    scene = bench.main
    _come_to_rest(scene)
    bench.proxy.faults.hold_requests = frozenset({PRODUCE})
    spike = send_spike(scene)
    stored = wait_until(lambda: scene.has_archived({spike.partition: spike.offset + 1}), 120, poll_s=0.05)
    bring_about(stored, "Delta did not commit the batch while Kafka took nothing")
    held = wait_until(lambda: bench.proxy.passed.held.get(PRODUCE, 0) > 0, 60, poll_s=0.02)
    bring_about(held, "the pipeline never tried to send")
    scene.kill()
    early = not scene.has_anomaly_of(spike)
    bench.proxy.heal()
    figures = scene.settle()
    return {"in_delta_and_not_in_kafka_at_the_kill": early, **figures}


@row(3, "kill after the sinks, before the commit log", "batch replays, Delta skips it", short=True)
def kill_before_the_commit_log(bench: Bench) -> Figures:
    """Kafka has taken anomaly and dead letter and the replies are lost: all sinks are done, the batch is not noted."""
    scene = bench.main
    _come_to_rest(scene)
    before = scene.check()
    bench.proxy.faults.lose_replies = frozenset({PRODUCE})
    letters = scene._log(scene.direct.settings.kafka.topics.dead_letters)
    known = len(letters.extend())
    spike = send_spike(scene)
    scene.traffic.send_values([(scene.traffic.meters[0], b"{")])
    sent = wait_until(lambda: scene.has_anomaly_of(spike) and len(letters.extend()) > known, 60, poll_s=0.05)
    open_batch = newest(scene.checkpoint / "archive" / "offsets") - newest(scene.checkpoint / "archive" / "commits")
    scene.kill()
    bench.proxy.heal()
    require(sent, "the anomaly never reached Kafka")
    bring_about(open_batch == 1, "the batch was noted as done before the kill")
    figures = scene.settle()
    # The alerts outlive the kill by some seconds and may still finish; the letters are the archive's.
    repeated = figures["dead_letters"] - before["dead_letters"] - 1
    require(repeated > 0, "the batch was not replayed: its dead letter was not sent again")
    return {"replayed_to_kafka": repeated, **figures}


@row(4, "kill during state snapshot or maintenance", "window sums equal the model")
def kill_amid_snapshots(bench: Bench) -> Figures:
    """Snapshots every second batch, maintenance every half second, and the kill at the moment a snapshot appears."""
    scene = bench.main
    scene.stop()
    kills = max(3, bench.kills // 10)
    state = scene.checkpoint / "windows" / "state"
    with scene.traffic.running():
        for number in range(1, kills + 1):
            child = scene.start(more={"GRIDWATCH_PIPELINE__JVM_OPTIONS": _SNAPSHOTS})
            scene.wait_ready(child)
            known = snapshots(state)
            seen = wait_until(lambda known=known: bool(snapshots(state) - known), 60, poll_s=0.002)
            scene.kill()
            bring_about(seen, "no snapshot within 60 s")
            bench.say(f"row 4: kill {number} of {kills} as a snapshot was written")
    return {"kills": kills, **scene.settle(300)}


def snapshots(state: Path) -> set[str]:
    """Snapshot files of the state store, finished or not."""
    return {str(path) for path in state.rglob("*.zip*")}


@row(5, "SIGTERM", "exits within 30 s, as 1")
def end_in_order(bench: Bench) -> Figures:
    """Under traffic, at random moments."""
    scene, rng = bench.main, bench.rng(5)
    took = []
    with scene.traffic.running():
        for _ in range(1 if bench.short else 3):
            child = scene.running()
            child.wait(rng.uniform(0.5, 4))
            began = time.monotonic()
            code = scene.stop(30)
            took.append(round(time.monotonic() - began, 2))
            require(code in (0, 130), f"ended with {code} after SIGTERM")
    return {"took_s": took, **scene.settle()}
