"""Rows 25 to 27: the alerts as members of their consumer group."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Mapping

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from kafka import KafkaAdminClient, TopicPartition

from pipelines.alerts import READY
from pipelines.alerts.group import committed, group_id
from pipelines.errors import MemberFenced
from pipelines.local.processes import Child, wait_until
from tests.faults.bench import Bench
from tests.faults.checker import lasting
from tests.faults.expect import bring_about, last_words, require
from tests.faults.kafka_proxy import PRODUCE
from tests.faults.matrix import Figures, row
from tests.faults.scene import Scene
from tests.faults.traffic import SPIKE
from tests.integration.support import text_of

APART = {"alerts__with_pipeline": "false", "metrics__alerts_port": "0"}
"""The row itself starts and kills the members."""
_DELIVER_S = 3


def with_tables(bench: Bench) -> Scene:
    """A scene whose pipeline has made the tables and has ended."""
    return bench._once("alerts", lambda: _made(bench))


def _made(bench: Bench) -> Scene:
    scene = bench.scene("alerts", **APART)
    scene.running()
    scene.stop()
    return scene


def start_alerts(scene: Scene, *options: str, more: Mapping[str, str] | None = None) -> Child:
    """Each life has a log of its own."""
    scene.lives += 1
    command = (sys.executable, "-m", "pipelines", "alerts", *options)
    return scene.place.start(f"alerts-{scene.lives}", *command, more=more or {})


def ready(scene: Scene, member: Child) -> None:
    """Wait until it judges."""
    wait_until(lambda: READY in text_of(member.log) or not member.is_running(), 60, poll_s=0.05)
    require(READY in text_of(member.log), f"the alerts did not start: {last_words(member)}")


def events_of(scene: Scene) -> Counter[tuple[int, int]]:
    """How often the topic holds the spike of each (partition, offset); fails when a repeat differs."""
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
    """Where the readings are that must raise an anomaly."""
    return {(one.partition, one.offset) for one in scene.traffic.acked if one.kind == SPIKE}


def settled(scene: Scene, member: Child, limit_s: float = 90) -> None:
    """Wait until every spike has its anomaly and nothing waits to be committed."""
    done = wait_until(lambda: set(events_of(scene)) >= spikes(scene), limit_s, poll_s=0.5)
    lost = sorted(spikes(scene) - set(events_of(scene)))
    require(done, f"{len(lost)} spikes without an anomaly, such as {lost[:3]}: {last_words(member)}")
    settings = scene.direct.settings
    even = wait_until(lambda: committed(settings) == scene.ends(), 20, poll_s=0.5)
    require(even, f"committed {committed(settings)}, the topic ends at {scene.ends()}")


@row(25, "two alerts consumers with one instance id", "the older ends with one line")
def one_name_twice(bench: Bench) -> Figures:
    """Two hosts of one name: each looks for its locks in a folder of its own."""
    scene = with_tables(bench)
    folders = [scene.place.folder / name for name in ("host-a", "host-b")]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    older = start_alerts(scene, more={"TMPDIR": str(folders[0])})
    ready(scene, older)
    newer = start_alerts(scene, more={"TMPDIR": str(folders[1])})
    with scene.traffic.running(8):
        code = scene.ended(older, 60)
        line = last_words(older)
        require(code == MemberFenced.exit_code and "taken over" in line, f"ended with {code}: {line}")
        require("Traceback" not in text_of(older.log), f"ends in a stack trace, see {older.log}")
        ready(scene, newer)
        time.sleep(3)
    settled(scene, newer)
    newer.stop(30)
    return {"says": line}


@row(26, "a record, broker or table that makes alerts fail", "bounded restarts, no offset passed", short=True)
def kafka_takes_nothing(bench: Bench) -> Figures:
    """Kafka takes no anomaly any more and does not say so. Then it heals, and another life finds all."""
    scene = with_tables(bench)
    limits = ("--set", f"alerts.deliver_within={_DELIVER_S}", "--set", "alerts.max_restarts=1")
    member = start_alerts(scene, *limits)
    ready(scene, member)
    began = time.monotonic()
    with bench.healed(), scene.traffic.running(8):
        time.sleep(2)
        bench.proxy.faults.hold_requests = frozenset({PRODUCE})
        known = len(events_of(scene))
        code = scene.ended(member, 90)
        took = time.monotonic() - began
        line = last_words(member)
    require(code == 4 and "alerts.deliver_within" in line, f"ended with {code}: {line}")
    restarts = scene.restarts_of(member)
    require(restarts == 1, f"{restarts} restarts instead of 1")
    passed = [at for at in spikes(scene) - set(events_of(scene)) if at[1] < committed(scene.direct.settings)[at[0]]]
    require(not passed, f"{len(passed)} spikes were passed without an anomaly, such as {sorted(passed)[:3]}")
    member = start_alerts(scene)
    settled(scene, member)
    member.stop(30)
    return {"anomalies_before": known, "ended_after_s": round(took, 1), "says": line}


@row(
    27,
    "alerts: kill -9; group forgotten by Kafka; retention overtook it",
    "repeats with the same ids only, none lost",
    short=True,
)
def kill_and_forget(bench: Bench) -> Figures:
    """Kills under traffic. Then the archive goes on alone, Kafka forgets the group and the oldest records."""
    scene, rng = with_tables(bench), bench.rng(27)
    settings = scene.direct.settings
    kills = 2 if bench.short else 10
    recovered: list[float] = []
    with scene.traffic.running(8):
        member = start_alerts(scene)
        ready(scene, member)
        for number in range(1, kills + 1):
            member.wait(rng.uniform(1, 6))
            member.kill()
            known, at = len(events_of(scene)), time.monotonic()
            member = start_alerts(scene)
            if wait_until(lambda known=known: len(events_of(scene)) > known, 60, poll_s=0.05):
                recovered.append(round(time.monotonic() - at, 1))
            bench.say(f"row 27: kill {number} of {kills}")
    settled(scene, member)
    member.kill()
    judged = committed(settings)
    scene.running()
    with scene.traffic.running(8):
        time.sleep(5)
    scene.catch_up(whole=False)
    scene.stop()
    gone = _forget(scene, judged)
    member = start_alerts(scene)
    settled(scene, member)
    member.stop(30)
    every = events_of(scene)
    return {
        "kills": kills, "spikes": len(spikes(scene)), "lost": 0, "recovery_s": recovered, "gone_from_kafka": gone,
        "repeated": sum(count > 1 for count in every.values()),
    }  # fmt: skip


def _forget(scene: Scene, judged: Mapping[int, int]) -> int:
    """Kafka forgets the group, and half of what the archive has stored since; returns how many records that are."""
    settings = scene.direct.settings
    topic, ends, servers = settings.kafka.topics.readings, scene.committed(), settings.kafka.bootstrap_servers
    cut = {partition: at + (ends[partition] - at) // 2 for partition, at in judged.items()}
    groups, name = AdminClient({"bootstrap.servers": servers, "log_level": 0}), group_id(settings)
    forgotten = wait_until(lambda: _is_deleted(groups, name), 30, poll_s=1)
    bring_about(forgotten, f"group {name} is not deleted")
    admin = KafkaAdminClient(bootstrap_servers=servers)
    admin.delete_records({TopicPartition(topic, partition): at for partition, at in cut.items()})
    admin.close()
    return sum(cut[partition] - at for partition, at in judged.items())


def _is_deleted(groups: AdminClient, name: str) -> bool:
    """A group can be deleted once it has no member: after the session timeout of one that was killed."""
    try:
        groups.delete_consumer_groups([name])[name].result(10)
    except KafkaException:
        return False
    return True


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
