"""Rows 31 and 32: one of three brokers ends, and a topic that both jobs read gets more partitions."""

from __future__ import annotations

import time
from dataclasses import dataclass

from kafka import KafkaAdminClient

from benchmarks.latency import quantiles
from pipelines.alerts.group import committed
from pipelines.kafka_probe import topic_facts, topic_problems
from pipelines.local.broker_cluster import MIN_INSYNC
from pipelines.local.processes import Child, wait_until
from tests.faults.bench import Bench
from tests.faults.expect import bring_about, last_words, require
from tests.faults.matrix import Figures, row
from tests.faults.rows_alerts import APART, events_of, ready, sent_times, spikes, start_alerts
from tests.faults.scene import Scene

BEFORE, AFTER = 4, 12
THREE = {
    **APART,
    "kafka__partitions": BEFORE,
    "kafka__replication_factor": 3,
    "kafka__min_insync_replicas": MIN_INSYNC,
}
_METERS = 60
"""Enough for each of twelve partitions to be somebody's."""
_PER_SECOND = 10
_AWAY_S = 40


@dataclass
class Both:
    """A scene on three brokers with both jobs running."""

    scene: Scene
    alerts: Child

    def waits(self, since_s: float, until_s: float) -> list[float]:
        """Between a reading and its anomaly in Kafka, ms, of the spikes that Kafka took in this time."""
        due = spikes(self.scene)  # first: more are sent while the topics are read
        topic = self.scene._log(self.scene.direct.settings.kafka.topics.readings).extend()
        told = sent_times(self.scene)
        taken = {place: topic[place].timestamp / 1000 for place in due}
        return [1000 * (told[at][0] - s) for at, s in taken.items() if since_s <= s < until_s and at in told]

    def restarts(self) -> int:
        """Of the pipeline's queries, so far."""
        assert self.scene.pipeline is not None
        return self.scene.restarts_of(self.scene.pipeline)

    def settled(self) -> Figures:
        """Both jobs still run, every spike has its anomaly, and the checker over all finds nothing wrong."""
        every = wait_until(lambda: set(events_of(self.scene)) >= spikes(self.scene), 90, poll_s=0.5)
        missing = sorted(spikes(self.scene) - set(events_of(self.scene)))
        require(every, f"{len(missing)} spikes without an anomaly, such as {missing[:3]}")
        require(self.alerts.is_running(), f"the alerts ended: {last_words(self.alerts)}")
        return self.scene.settle(300)


def both_jobs(bench: Bench) -> Both:
    """Made once."""
    return bench._once("three brokers", lambda: _start_both(bench))


def _start_both(bench: Bench) -> Both:
    scene = bench.scene("three-brokers", kafka=bench.brokers, meters=_METERS, **THREE)
    scene.running()
    alerts = start_alerts(scene)
    with scene.traffic.running(_PER_SECOND):
        ready(scene, alerts)
        judged = wait_until(lambda: bool(events_of(scene)), 60, poll_s=0.5)
    bring_about(judged, f"no anomaly before the fault: {last_words(alerts)}")
    return Both(scene, alerts)


@row(
    31,
    "any one of three brokers killed under load",
    "0 lost, 0 duplicates; alerts go on, pipeline restarts once at most",
)
def one_of_three_killed(bench: Bench) -> Figures:
    """Each in turn, kill -9, while both jobs work; the next only when all replicas are in sync again."""
    both, figures = both_jobs(bench), Figures()
    scene, settings = both.scene, both.scene.direct.settings
    away_s = 15 if bench.short else _AWAY_S
    with scene.traffic.running(_PER_SECOND):
        time.sleep(15)  # what the waits are without a fault
        figures["healthy"] = quantiles(both.waits(time.time() - 15, time.time()))
        for number, broker in enumerate(bench.brokers.brokers, 1):
            before, at = both.restarts(), time.time()
            broker.kill()
            time.sleep(away_s)
            broker.start()
            whole = wait_until(lambda: not list(topic_problems(topic_facts(settings), settings)), 90, poll_s=0.5)
            bring_about(whole, f"broker {number} is not in sync again")
            restarts = both.restarts() - before
            require(restarts <= 1, f"{restarts} restarts of the pipeline's queries for broker {number}")
            figures[f"broker_{number}"] = quantiles(both.waits(at, at + away_s)) | {"restarts": restarts}
            bench.say(f"row 31: broker {number}: {figures[f'broker_{number}']}")
    return figures | both.settled()


@row(32, f"partitions grown from {BEFORE} to {AFTER} under load", "all are read from their start, also by the alerts")
def partitions_grown(bench: Bench) -> Figures:
    """Of readings and anomalies at once: keys move to other partitions amid the traffic; nothing is started by hand."""
    both = both_jobs(bench)
    scene, kafka = both.scene, both.scene.direct.settings.kafka
    with scene.traffic.running(_PER_SECOND):
        time.sleep(5)
        admin = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
        admin.create_partitions({kafka.topics.readings: AFTER, kafka.topics.anomalies: AFTER})
        admin.close()
        at = time.time()
        noticed = wait_until(lambda: len(committed(scene.direct.settings)) == AFTER, 60, poll_s=0.2)
        require(noticed, f"the alerts did not notice: {last_words(both.alerts)}")
        noticed_s = time.time() - at
        time.sleep(40)
        until = time.time()
    found = both.settled()
    ends = scene.ends()
    require(len(ends) == AFTER and all(ends.values()), f"a partition without records: {ends}")
    return {
        "partitions": AFTER, "records_in_the_new": sum(ends[p] for p in range(BEFORE, AFTER)),
        "noticed_s": round(noticed_s, 1), "amid": quantiles(both.waits(at, at + noticed_s + 10)),
        "after": quantiles(both.waits(at + noticed_s + 10, until)), **found,
    }  # fmt: skip
