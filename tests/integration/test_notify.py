"""`gridwatch notify` over a real broker: what is told after a first start, a kill, and an endpoint that was dead."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from pipelines.local.ports import free_port
from pipelines.local.processes import Child, wait_until
from pipelines.notify.run import READY
from tests.http_sink import HttpSink
from tests.integration.support import Place, explain, stopped, wait_for, wait_for_text

pytestmark = pytest.mark.timeout(300)

Told = tuple[str, str]
"""Kind and incident."""


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as running:
        yield running


def prepared(place: Place, url: str) -> Place:
    here = place.with_settings(
        notify__webhook_error=url, metrics__notify_port=free_port(), notify__retry_most="1 s", notify__repeat="1 h"
    )
    here.create_topics()
    return here


class Incidents:
    """Sends records to the topic incidents."""

    def __init__(self, place: Place) -> None:
        self._topic = place.settings.kafka.topics.incidents
        self._producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers)

    def send(self, name: str, status: str = "open", *, alerts: int = 1, severity: str = "ERROR") -> None:
        document = {"incidentId": name, "status": status, "alerts": alerts, "severity": severity, "lastAnomalyAt": 5}
        self._producer.send(self._topic, json.dumps(document).encode(), key=name.encode())
        self._producer.flush()

    def remove(self, name: str) -> None:
        self._producer.send(self._topic, None, key=name.encode())
        self._producer.flush()


def told(sink: HttpSink) -> list[Told]:
    return [(body["kind"], body["incident"]["incidentId"]) for _, body in sink.taken]


def start(place: Place) -> Child:
    """Each life has a log of its own."""
    life = len(list(place.folder.glob("notify-*.log"))) + 1
    child = place.gridwatch(f"notify-{life}", "notify")
    wait_for_text(child, READY, 60)
    return child


def hear(sink: HttpSink, child: Child, wanted: list[Told]) -> None:
    """Wait until so much was told; it must be this."""
    wait_for(child, f"{len(wanted)} notifications", lambda: len(told(sink)) >= len(wanted), 30)
    assert told(sink) == wanted


def is_committed(place: Place) -> bool:
    """Whether the notifier's group has committed the end of the topic."""
    part = TopicPartition(place.settings.kafka.topics.incidents, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=place.bootstrap_servers, group_id=place.settings.notify.group, enable_auto_commit=False
    )
    try:
        return bool(consumer.committed(part) == consumer.end_offsets([part])[part])
    finally:
        consumer.close()


def test_a_life_after_a_kill_tells_what_is_new_and_nothing_twice(place: Place, sink: HttpSink) -> None:
    here = prepared(place, sink.url("/error"))
    incidents = Incidents(here)
    for name, status in (("old", "closed"), ("open", "open"), ("gone", "open"), ("quiet", "open")):
        incidents.send(name, status, alerts=0 if name == "quiet" else 1)
    incidents.remove("gone")
    with stopped(start(here)) as first:
        hear(sink, first, [("opened", "open")])
        incidents.send("next")
        hear(sink, first, [("opened", "open"), ("opened", "next")])
        wait_for(first, "the offset of all that was delivered", lambda: is_committed(here), 30)
        first.kill()
    incidents.send("open", "closed")
    incidents.send("later")
    with stopped(start(here)) as second:
        heard = [("opened", "open"), ("opened", "next"), ("closed", "open"), ("opened", "later")]
        hear(sink, second, heard)  # of two notices of an incident that wait, only the newer one is told
        incidents.send("next", alerts=2)
        incidents.remove("later")
        hear(sink, second, [*heard, ("escalated", "next"), ("closed", "later")])
        assert second.stop(20) == 130, explain(second, "did not end in order")


def test_what_a_dead_endpoint_missed_it_is_told_after_a_restart_too(place: Place) -> None:
    port = free_port()
    here = prepared(place, f"http://127.0.0.1:{port}/error")
    incidents = Incidents(here)
    with stopped(start(here)) as first:
        incidents.send("missed")
        failed = 'outcome="failed",receiver="webhook-error",severity="ERROR"} '
        wait_for(first, "failed tries", lambda: failed in metrics_of(here), 30)
        assert 'gridwatch_notifications_pending{receiver="webhook-error"} 1.0' in metrics_of(here)
        assert 'gridwatch_kafka_lag_records{partition="0",query="notify"' in metrics_of(here)
        first.kill()
    with HttpSink(port) as sink, stopped(start(here)) as second:
        hear(sink, second, [("opened", "missed")])
        wait_until(lambda: 'pending{receiver="webhook-error"} 0.0' in metrics_of(here), 10)
        assert 'pending{receiver="webhook-error"} 0.0' in metrics_of(here)


def metrics_of(place: Place) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{place.settings.metrics.notify_port}/metrics", timeout=10) as said:
        text: Any = said.read().decode()
    return str(text)
