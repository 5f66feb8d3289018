"""The real-time job against a real broker: it finds what the micro-batch finds, and a kill loses nothing."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from pipelines.jobs.alerts import READY
from pipelines.jobs.alerts_mode import settle_mode
from pipelines.jobs.alerts_offsets import committed_offsets
from pipelines.jobs.context import Run
from pipelines.local.broker import RunningBroker
from pipelines.local.processes import Child
from pipelines.settings import Settings
from pipelines.small_tables import create_tables
from tests.integration.alerting import Sender, expected_anomalies, sent_anomalies, write_reference_tables
from tests.integration.submit import submit
from tests.integration.support import (
    Place,
    end_leftovers,
    explain,
    interrupt,
    marked_processes,
    records_of,
    stopped,
    wait_for,
    wait_for_end,
    wait_for_text,
)

pytestmark = pytest.mark.timeout(600)

REALTIME = {
    "alerts__mode": "realtime",
    "alerts__trigger": "8 s",
    "alerts__jvm_options": "-XX:TieredStopAtLevel=1",
    "alerts__heartbeat_every": "10",
}


def prepared(place: Place, spark: SparkSession, *, baselines: bool = True) -> Place:
    """Topics, tables and the change to realtime, as a pipeline would leave them."""
    here = place.with_settings(**REALTIME)
    here.create_topics()
    create_tables(here.settings)
    write_reference_tables(here.settings, baselines=baselines)
    settle_mode(Run(spark, here.settings, "generation", lambda line: None))
    return here


def start_alerts(place: Place) -> Child:
    """Each life has a log of its own."""
    life = len(list(place.folder.glob("alerts-*.log"))) + 1
    return place.gridwatch(f"alerts-{life}", "alerts")


@dataclass(frozen=True)
class Killed:
    """The place, and the offsets that the first life had committed when it was killed."""

    place: Place
    committed: dict[int, int]

    @property
    def settings(self) -> Settings:
        return self.place.settings


@pytest.fixture(scope="module")
def killed(kafka: RunningBroker, spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Killed]:
    """
    readings     |== 900 ==|          |== 900 ==| 300 |== 900 ==|
    alerts job   start ----- commit -----------x         start -------- SIGTERM
    """
    place = Place(tmp_path_factory.mktemp("alerts"), kafka.bootstrap_servers)
    try:
        # A cold JVM beside other work has taken longer than the 12 s that the watchdog grants by default.
        here = prepared(place, spark).with_settings(alerts__stuck_after="40 s")
        checkpoint = Path(here.settings.pipeline.checkpoint, "alerts-1")
        sender = Sender(here.settings)
        with stopped(start_alerts(here)) as first:
            wait_for_text(first, READY, 120)
            sender.send(900, rate=300)
            wait_for(first, "a committed batch", lambda: any(checkpoint.glob("commits/[0-9]*")), 120)
            before = len(sent_anomalies(here.settings))
            sender.send(900, rate=300)
            wait_for(first, "anomalies of the open batch", lambda: len(sent_anomalies(here.settings)) > before, 60)
            first.kill()
        committed = committed_offsets(spark, str(checkpoint), here.settings.kafka.topics.readings)
        assert committed
        sender.send(300)
        with stopped(start_alerts(here)) as second:
            wait_for_text(second, READY, 120)
            sender.send(900)
            expected = set(expected_anomalies(spark, here.settings))
            wait_for(second, "all anomalies", lambda: set(sent_anomalies(here.settings)) >= expected, 60)
            assert second.stop(30) == 130, explain(second, "did not end in order")
        yield Killed(here, committed)
    finally:
        end_leftovers(place.mark)


def test_it_finds_what_the_micro_batch_finds_and_a_kill_loses_nothing(killed: Killed, spark: SparkSession) -> None:
    expected = expected_anomalies(spark, killed.settings)
    sent = sent_anomalies(killed.settings)
    assert {one["anomalyType"] for one in expected.values()} == {
        "voltage_spike", "overvoltage", "interruption", "voltage_deviation", "implausible_value",
    }  # fmt: skip
    assert {name: events[0] for name, events in sent.items()} == expected


def test_a_repeated_anomaly_is_the_same_event_and_of_the_batch_that_was_open(killed: Killed) -> None:
    sent = sent_anomalies(killed.settings)
    repeated = [events for events in sent.values() if len(events) > 1]
    assert repeated, "no alert of the open batch came before the batch's end"
    assert all(event == events[0] for events in repeated for event in events)
    origins = [(events[0]["source"]["partition"], events[0]["source"]["offset"]) for events in repeated]
    assert all(offset >= killed.committed[partition] for partition, offset in origins)
    assert max(len(events) for events in repeated) == 2


def test_heartbeats_name_every_tenth_offset_also_of_rejected_records(killed: Killed) -> None:
    beats = [json.loads(r.value) for r in records_of(killed.settings, killed.settings.kafka.topics.heartbeats)]
    readings = records_of(killed.settings, killed.settings.kafka.topics.readings)
    due = {(r.partition, r.offset, r.timestamp) for r in readings if r.offset % 10 == 0}
    assert {(beat["partition"], beat["offset"], beat["timestamp"]) for beat in beats} == due
    assert max(Counter(map(str, beats)).values()) <= 2


def test_too_few_slots_are_refused(place: Place, spark: SparkSession) -> None:
    here = prepared(place, spark).with_settings(alerts__master="local[2]")
    with stopped(start_alerts(here)) as job:
        said = wait_for_end(job, 120, code=2)
    assert f"2 task slots for the 2 partitions of {here.settings.kafka.topics.readings}" in said
    assert "local[4]" in said


def test_the_wrong_mode_is_refused_before_anything_is_started(nowhere: Place) -> None:
    with stopped(start_alerts(nowhere)) as job:
        said = wait_for_end(job, 30, code=2)
    assert "alerts.mode = microbatch" in said


def test_it_runs_under_spark_submit_and_ends_on_sigterm(place: Place, spark: SparkSession, package: Path) -> None:
    here = prepared(place, spark)
    with stopped(submit(here, package, "--master", "local[4]", job="alerts")) as job:
        wait_for_text(job, READY, 150)
        Sender(here.settings).send(100)
        wait_for(job, "anomalies", lambda: bool(sent_anomalies(here.settings)), 60)
        interrupt(job, signal.SIGTERM)
        assert job.wait(30), explain(job, "still runs 30 s after SIGTERM")


def test_a_job_that_hangs_is_ended_within_15_seconds(place: Place, spark: SparkSession) -> None:
    """SIGSTOP to its JVM: nothing fails, nothing answers, and records wait."""
    here = prepared(place, spark)
    sender = Sender(here.settings)
    with stopped(start_alerts(here)) as job:
        wait_for_text(job, READY, 120)
        sender.send(100)
        wait_for(job, "a heartbeat", lambda: bool(records_of(here.settings, here.settings.kafka.topics.heartbeats)), 60)
        os.kill(jvm_of(here), signal.SIGSTOP)
        sender.send(100)
        hung = time.monotonic()
        said = wait_for_end(job, 25, code=4)
    assert time.monotonic() - hung < 17, "15 s, and the time to end"
    # Both wait; which of them is overdue first is a matter of half a second.
    assert re.search(r"the alerts job is stuck: partitions \[(0|1|0, 1)\] have not moved", said), said


def test_under_spark_submit_a_job_that_hangs_ends_too(place: Place, spark: SparkSession, package: Path) -> None:
    """There the JVM is our parent: nobody here can kill it, and a call into it never comes back."""
    here = prepared(place, spark)
    sender = Sender(here.settings)
    with stopped(submit(here, package, "--master", "local[4]", job="alerts")) as job:
        wait_for_text(job, READY, 150)
        sender.send(100)
        wait_for(job, "a heartbeat", lambda: bool(records_of(here.settings, here.settings.kafka.topics.heartbeats)), 60)
        os.kill(jvm_of(here), signal.SIGSTOP)
        sender.send(100)
        wait_for(job, "the end of Python", lambda: not any(map(is_python, marked_processes(here.mark).values())), 40)
        os.kill(jvm_of(here), signal.SIGCONT)
        said = wait_for_end(job, 30, code=4)
    assert "the alerts job is stuck" in said


def is_python(command_line: str) -> bool:
    return Path(command_line.split()[0]).name.startswith("python")


def jvm_of(place: Place) -> int:
    (found,) = [pid for pid, line in marked_processes(place.mark).items() if Path(line.split()[0]).name == "java"]
    return found
