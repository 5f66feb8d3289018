"""The query incidents at a real broker, without Spark: in time, committed records only, taking over, at rest."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from pipelines.identity.findings import first_position
from pipelines.identity.record import RunRecord
from pipelines.incidents.positions import Position, read_position
from pipelines.incidents.query import IncidentsQuery
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, read_rows, table_version
from pipelines.tables import ANOMALIES, INCIDENTS, OPERATOR_ACTIONS
from tests.factories import ms, utc
from tests.integration.support import Place

GENERATION = "generation"
_BEGINNING = Position()


@dataclass
class Running:
    """A query that runs, and what it may ask."""

    query: IncidentsQuery
    judged: dict[int, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)


@contextmanager
def running(settings: Settings, first: Position = _BEGINNING) -> Iterator[Running]:
    """Over the block; at its end in order."""
    judged: dict[int, int] = {}
    said: list[str] = []
    query = IncidentsQuery(settings, GENERATION, PipelineMetrics(), said.append, first, lambda: judged, lambda *_: None)
    problems: list[BaseException] = []

    def live() -> None:
        try:
            query.run()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield Running(query, judged, said)
    finally:
        query.ending.set()
        thread.join(30)
    assert not problems, problems


@pytest.fixture
def settings(place: Place) -> Settings:
    """Topics at the broker and an empty lake."""
    place.create_topics()
    create_tables(place.settings)
    return place.settings


def anomaly(t: float, meter: str, severity: str = "WARNING") -> tuple[str, bytes]:
    document = {
        "anomalyId": f"{meter}|{t}", "anomalyType": "undervoltage", "severity": severity, "stage": "reading",
        "meterId": meter, "feederId": "f1", "eventTime": ms(t), "message": "low",
    }  # fmt: skip
    return meter, json.dumps(document).encode()


def producer(settings: Settings, **more: str) -> Any:
    return Producer({"bootstrap.servers": settings.kafka.bootstrap_servers, **more})


def send(settings: Settings, topic: str, *records: tuple[str | None, bytes]) -> None:
    client = producer(settings)
    for key, value in records:
        client.produce(topic, value, key)
    assert client.flush(10) == 0


def tick(t: float, **archived: int) -> tuple[None, bytes]:
    more = {"archived": {name[1:]: at for name, at in archived.items()}} if archived else {}
    return None, json.dumps({"windowEnd": ms(t)} | more).encode()


class Topic:
    """The topic incidents as a consumer has it: time of the broker and document of each record."""

    def __init__(self, settings: Settings) -> None:
        self._consumer: Any = Consumer(
            {"bootstrap.servers": settings.kafka.bootstrap_servers, "group.id": "watching", "enable.auto.commit": False}
        )
        self._consumer.assign([TopicPartition(settings.kafka.topics.incidents, 0, 0)])
        self.seen: list[dict[str, Any]] = []

    def wait_for(self, is_there: Callable[[list[dict[str, Any]]], bool], limit_s: float = 20) -> float:
        """Seconds until it is."""
        began = time.monotonic()
        while not is_there(self.seen):
            assert time.monotonic() - began < limit_s, self.seen
            message = self._consumer.poll(0.1)
            if message is not None and message.error() is None:
                self.seen.append(json.loads(message.value()))
        return time.monotonic() - began

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def topic(settings: Settings) -> Iterator[Topic]:
    watched = Topic(settings)
    yield watched
    watched.close()


def versions(settings: Settings) -> list[int]:
    return [table_version(settings, table) for table in (ANOMALIES, INCIDENTS, OPERATOR_ACTIONS)]


def comes_to_rest(settings: Settings, quiet_s: float = 6, limit_s: float = 60) -> bool:
    """Whether no table has another commit for a while."""
    seen, since = versions(settings), time.monotonic()
    until = since + limit_s
    while time.monotonic() < until:
        time.sleep(0.5)
        if (now := versions(settings)) != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > quiet_s:
            return True
    return False


def test_an_incident_is_on_its_topic_within_two_seconds_of_its_anomaly_and_closes_with_the_clock(
    settings: Settings, topic: Topic
) -> None:
    topics = settings.kafka.topics
    with running(settings) as runs:
        send(settings, topics.anomalies, anomaly(0, "m0"))
        topic.wait_for(lambda seen: len(seen) == 1)
        took = []
        for number in range(1, 6):
            send(settings, topics.anomalies, anomaly(0, f"m{number}"))
            took.append(topic.wait_for(lambda seen, n=number: len(seen) > n))  # type: ignore[misc]
        assert sorted(took)[len(took) // 2] < 2.0, took
        send(settings, topics.ticks, tick(300))
        topic.wait_for(lambda seen: sum(one["status"] == "closed" for one in seen) == 6)
        assert comes_to_rest(settings), "something is committed all the time though nothing comes"
        name, stage = "gridwatch_end_to_end_latency_seconds_count", {"stage": "incident"}
        assert (runs.query.metrics.registry.get_sample_value(name, stage) or 0) >= 6
        assert runs.query.updates < 12
    assert [row["status"] for row in read_rows(settings, INCIDENTS).to_pylist()] == ["closed"] * 6


def test_aborted_anomalies_do_not_count_and_hold_no_tick_up(settings: Settings, topic: Topic) -> None:
    """The tick waits for the committed ends, behind which the markers of both transactions lie."""
    topics = settings.kafka.topics
    for meter, is_kept in (("kept", True), ("aborted", False)):
        client = producer(settings, **{"transactional.id": f"{topics.anomalies}-{meter}"})
        client.init_transactions(10)
        client.begin_transaction()
        client.produce(topics.anomalies, *reversed(anomaly(0, meter)))
        client.flush(10)
        (client.commit_transaction if is_kept else client.abort_transaction)(10)
    send(settings, topics.ticks, tick(300))
    with running(settings):
        topic.wait_for(lambda seen: any(one["status"] == "closed" for one in seen))
    assert {one["meterId"] for one in topic.seen} == {"kept"}
    assert read_rows(settings, ANOMALIES)["meter_id"].to_pylist() == ["kept"]


def test_the_clock_waits_for_the_alerts_to_have_judged_what_the_archive_had_read(
    settings: Settings, topic: Topic
) -> None:
    topics = settings.kafka.topics
    send(settings, topics.anomalies, anomaly(0, "m1"))
    send(settings, topics.ticks, tick(300, p0=100))
    with running(settings) as runs:
        topic.wait_for(lambda seen: len(seen) == 1)
        time.sleep(2)
        send(settings, topics.anomalies, anomaly(200, "m1", "ERROR"))
        topic.wait_for(lambda seen: len(seen) == 2)
        assert [one["status"] for one in topic.seen] == ["open", "open"]
        runs.judged[0] = 100
        send(settings, topics.ticks, tick(500, p0=100))
        topic.wait_for(lambda seen: len(seen) == 3)
        assert [one["status"] for one in topic.seen] == ["open", "open", "closed"]
        assert runs.said == [line for line in runs.said if "waiting for them" not in line]


def test_the_checkpoint_of_sparks_query_is_taken_over_where_its_next_batch_would_begin(
    settings: Settings, topic: Topic
) -> None:
    """Batch 1 was planned and not done: it is done again, batch 0 is not."""
    topics = settings.kafka.topics
    client = producer(settings)
    for number in range(4):
        client.produce(topics.anomalies, *reversed(anomaly(1000 * number, "m1")), partition=0)
    client.flush(10)
    log = Path(settings.pipeline.checkpoint) / "incidents"
    for folder in ("offsets", "commits"):
        (log / folder).mkdir(parents=True)
    (log / "metadata").write_text('{"id":"1"}')
    for batch, end in ((0, 2), (1, 3)):
        ends = json.dumps({topics.anomalies: {"0": end}, topics.ticks: {"0": 0}})
        (log / "offsets" / str(batch)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{ends}')
    (log / "commits" / "0").write_text("v1\n{}")
    with running(settings, first_position(settings, RunRecord(GENERATION))):
        topic.wait_for(lambda seen: len(seen) == 2)
    stored = read_rows(settings, ANOMALIES, columns=["event_ts"])["event_ts"].to_pylist()
    assert sorted(stored) == [utc(2000), utc(3000)]
    position = read_position(settings, GENERATION, {topics.anomalies: [0]})
    assert position.offsets == {topics.anomalies: {0: 4}}
