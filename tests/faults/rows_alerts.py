"""Rows 25 to 27: the real-time job."""

from __future__ import annotations

import json
import time
from collections import Counter

from pipelines.jobs.alerts import READY

from pipelines.local.processes import Child, wait_until
from tests.faults.bench import Bench
from tests.faults.checker import lasting
from tests.faults.expect import last_words, require
from tests.faults.kafka_proxy import PRODUCE
from tests.faults.matrix import Figures, row
from tests.faults.scene import Scene
from tests.faults.traffic import SPIKE
from tests.integration.support import text_of

TRIGGER_S = 8
REALTIME = {
    "alerts__mode": "realtime",
    "alerts__trigger": f"{TRIGGER_S} s",
    "alerts__jvm_options": "-XX:TieredStopAtLevel=1",
    "alerts__heartbeat_every": "10",
}


def handed_over(bench: Bench) -> Scene:
    """A scene whose pipeline has handed the readings over to the alerts job, and has ended."""
    return bench._once("alerts", lambda: _hand_over(bench))


def _hand_over(bench: Bench) -> Scene:
    scene = bench.scene("alerts", **REALTIME)
    scene.running()
    scene.stop()
    return scene


def start_alerts(scene: Scene, *options: str) -> Child:
    """Each life has a log of its own."""
    scene.lives += 1
    return scene.place.gridwatch(f"alerts-{scene.lives}", "alerts", *options)


def ready(scene: Scene, job: Child) -> None:
    """Wait until it judges, with readings to judge."""
    wait_until(lambda: READY in text_of(job.log) or not job.is_running(), 150, poll_s=0.1)
    require(READY in text_of(job.log), f"the alerts job did not start: {last_words(job)}")


def events_of(scene: Scene) -> Counter[tuple[int, int]]:
    """How often the spike of each (partition, offset) stands in the topic; fails when a repeat differs."""
    found: Counter[tuple[int, int]] = Counter()
    known: dict[str, dict[str, object]] = {}
    for record in scene._log(scene.direct.settings.kafka.topics.anomalies).extend().values():
        event = lasting(json.loads(record.value))
        same = known.setdefault(event["anomalyId"], event) == event
        require(same or event["anomalyType"] == "voltage_deviation", f"{event['anomalyId']} repeats as another event")
        if event["anomalyType"] == "voltage_spike":
            found[event["source"]["partition"], event["source"]["offset"]] += 1
    return found


def spikes(scene: Scene) -> set[tuple[int, int]]:
    """Where the readings stand that must raise an anomaly."""
    return {(one.partition, one.offset) for one in scene.traffic.acked if one.kind == SPIKE}


@row(25, "real-time job: fewer slots than partitions", "refuses to start")
def too_few_slots(bench: Bench) -> Figures:
    """Two slots for two partitions."""
    scene = handed_over(bench)
    job = start_alerts(scene, "--set", "alerts.master=local[2]")
    code = scene.ended(job, 120)
    line = last_words(job)
    require(code == 2 and "task slots" in line, f"ended with {code}: {line}")
    return {"says": line}


@row(26, "real-time job: failing expression or sink", "no livelock; the watchdog exits", short=True)
def sink_fails(bench: Bench) -> Figures:
    """Kafka takes nothing any more from it and says nothing: no task fails, no heartbeat comes."""
    scene = handed_over(bench)
    job = start_alerts(scene)
    with scene.traffic.running():
        ready(scene, job)
        beats = scene.direct.settings.kafka.topics.heartbeats
        beating = wait_until(lambda: bool(scene._log(beats).extend()), 60, poll_s=0.5)
        require(beating, f"no heartbeat: {last_words(job)}")
        bench.proxy.faults.hold_requests = frozenset({PRODUCE})
        began = time.monotonic()
        code = scene.ended(job, 60)
        took = time.monotonic() - began
    bench.proxy.heal()
    line = last_words(job)
    require(code == 4 and "stuck" in line, f"ended with {code}: {line}")
    return {"ended_after_s": round(took, 1), "says": line}


@row(27, "real-time job: kill -9", "repeats <= one trigger, same ids, none lost", short=True)
def kill_alerts(bench: Bench) -> Figures:
    """Kills under traffic; afterwards every spike has its anomaly, and repeats are of the batch that was open."""
    scene, rng = handed_over(bench), bench.rng(27)
    kills = 1 if bench.short else 10
    begins = scene.ends()
    times: list[float] = []
    recovered: list[float] = []
    with scene.traffic.running(8):
        for number in range(1, kills + 1):
            job = start_alerts(scene)
            ready(scene, job)
            if times:
                known = len(scene._log(scene.direct.settings.kafka.topics.anomalies).extend())
                wait_until(lambda known=known: _sent(scene) > known, 60, poll_s=0.05)
                recovered.append(round(time.time() - times[-1], 1))
            job.wait(rng.uniform(2, 1.5 * TRIGGER_S))
            job.kill()
            times.append(time.time())
            bench.say(f"row 27: kill {number} of {kills}")
        job = start_alerts(scene)
        ready(scene, job)
    done = wait_until(lambda: set(events_of(scene)) >= spikes(scene), 90, poll_s=0.5)
    lost = sorted(spikes(scene) - set(events_of(scene)))
    job.stop(30)
    require(done, f"{len(lost)} spikes without an anomaly, such as {lost[:3]}")
    # What stood there before was repeated by the first life: row 26 left its batch open.
    mine = {place: count for place, count in events_of(scene).items() if place[1] >= begins[place[0]]}
    repeated = {place: count for place, count in mine.items() if count > 1}
    # A batch is as long as its trigger and the moment it takes to hand over. The last of the repeats is no repeat yet.
    sent = sent_times(scene)
    far = [p for p in repeated if any(not _before_a_kill(at, times) for at in sent[p][:-1])]
    require(not far, f"{len(far)} repeats older than one trigger before a kill, such as {far[:3]}")
    return {
        "kills": kills, "spikes": len(mine), "lost": len(lost), "repeated": len(repeated),
        "recovery_s": recovered,
    }  # fmt: skip


def _sent(scene: Scene) -> int:
    return len(scene._log(scene.direct.settings.kafka.topics.anomalies).extend())


def sent_times(scene: Scene) -> dict[tuple[int, int], list[float]]:
    """When Kafka took the anomalies of each spike, epoch seconds, ascending."""
    found: dict[tuple[int, int], list[float]] = {}
    for record in scene._log(scene.direct.settings.kafka.topics.anomalies).extend().values():
        event = json.loads(record.value)
        if event["anomalyType"] == "voltage_spike":
            found.setdefault((event["source"]["partition"], event["source"]["offset"]), []).append(
                record.timestamp / 1000
            )
    return {place: sorted(times) for place, times in found.items()}


def _before_a_kill(at: float, kills: list[float]) -> bool:
    """Whether something was sent within the batch that a kill cut off."""
    return any(-1 < kill - at < TRIGGER_S + 5 for kill in kills)
