"""`gridwatch check` against a real broker: what is wrong is named, nothing is changed, records are judged."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType

from pipelines.kafka_probe import TopicFacts, broker_clock, missing_rights, topic_facts, topic_problems
from pipelines.local.processes import wait_until
from pipelines.sample import judge_records, latest_records
from tests.integration.support import Place, records_of, stopped, text_of, wait_for_end


def check(place: Place, *arguments: str, code: int = 0) -> dict[str, dict[str, Any]]:
    """What the command found, by name."""
    with stopped(place.start("check", sys.executable, "-m", "pipelines", "check", "--json", *arguments)) as child:
        wait_for_end(child, 120, code=code)
    said = text_of(place.log("check"))
    found = json.loads(said[said.index("{") :])
    return {one["name"]: one for one in found["checks"]}


def send_readings(place: Place, count: int, **changes: Any) -> None:
    """Readings of now, from five meters."""
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers)
    for number in range(count):
        reading = {
            "meterId": f"m-{number % 5}", "timestamp": int(time.time() * 1000) - 2000, "voltage": 230.0,
            "current": 5.0, "temperature": 20.0, "status": None,
        } | changes  # fmt: skip
        producer.send(place.settings.kafka.topics.readings, key=b"m", value=json.dumps(reading).encode())
    producer.flush()
    producer.close()


def test_a_fresh_place_is_well_and_stays_as_it_is(place: Place) -> None:
    place.create_topics()
    found = check(place)
    assert {name: one["result"] for name, one in found.items()} == {
        "kafka": "ok", "topics": "ok", "topic settings": "ok", "permissions": "ok", "broker clock": "ok",
        "lake": "ok", "meters": "warning",
    }  # fmt: skip
    assert not (place.folder / "lake").exists()
    assert all(not records_of(place.settings, name) for name in place.settings.kafka.topics.model_dump().values())


def test_a_topic_that_keeps_too_little_or_is_not_compacted_is_named(place: Place) -> None:
    place.create_topics()
    topics = place.settings.kafka.topics
    changed = {topics.readings: {"retention.ms": "3600000"}, topics.incidents: {"cleanup.policy": "delete"}}
    admin = KafkaAdminClient(bootstrap_servers=place.bootstrap_servers)
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs=c) for name, c in changed.items()])
    admin.close()
    problems: list[str] = []

    def is_told() -> bool:
        problems[:] = topic_problems(topic_facts(place.settings), place.settings)
        return len(problems) == 2

    assert wait_until(is_told, 15, poll_s=0.3), problems
    assert f"{topics.readings} keeps records for 1 h" in " ".join(problems)
    assert f"{topics.incidents} is not compacted" in " ".join(problems)


def test_a_right_that_is_missing_is_named() -> None:
    """The test's broker has no ACLs; the facts of one that refuses writes."""
    facts = TopicFacts("anomalies", "anomalies", 1, 1, 0, 0, {}, frozenset({"READ", "DESCRIBE"}))
    assert missing_rights([facts]) == {
        "pipeline": ["WRITE on anomalies"], "alerts": ["WRITE on anomalies"], "notify": [], "console": [],
    }  # fmt: skip


def test_a_broker_on_this_machine_has_this_machines_clock(place: Place) -> None:
    place.create_topics()
    send_readings(place, 3)
    agrees, said = broker_clock(place.settings)
    assert agrees, said
    assert "no reading came" in said


def test_the_latest_records_are_judged(place: Place) -> None:
    place.create_topics()
    send_readings(place, 60)
    send_readings(place, 20, voltage="230")
    send_readings(place, 10, timestamp=int(time.time()))
    report = judge_records(latest_records(place.settings, 1000), place.settings.input)
    assert (report.records, report.rejected, report.meters) == (90, 30, 5)
    assert sum(report.reasons.values()) == 30
    assert "too_old" in report.reasons
    assert len(report.reasons) == 2
    assert set(report.examples) == set(report.reasons)
    assert '"voltage": "230"' in " ".join(report.examples.values())
    assert report.delay_s is not None
    assert 1.5 < report.delay_s[1] < 30


def test_a_topic_of_which_no_record_is_a_reading_is_refused(place: Place) -> None:
    place.create_topics()
    send_readings(place, 20, meterId=None)
    found = check(place, "--sample", "100", code=3)
    assert found["sample"]["result"] == "failed"
    assert "0 of the latest 20 records are readings" in found["sample"]["detail"]


@pytest.mark.minio
def test_the_stores_clock_is_asked(place: Place) -> None:
    from pipelines.local.objectstore import start_objectstore

    place.create_topics()
    with start_objectstore(place.folder / "store") as store:
        store.create_bucket("grid")
        there = place.with_settings(
            lake__root="s3a://grid/lake",
            store__endpoint=store.endpoint,
            store__access_key=store.access_key,
            store__secret_key=store.secret_key,
        )
        found = check(there)
    assert found["store clock"]["result"] == "ok"
    assert found["lake"]["result"] == "ok"
