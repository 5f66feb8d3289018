"""The notifier's receivers against a real Alertmanager, which tells real webhooks."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipelines.local.processes import wait_until
from pipelines.notify.ledger import Ledger
from pipelines.notify.receivers import Alertmanager as Receiver
from pipelines.notify.receivers import http_post
from tests.http_sink import HttpSink
from tests.prometheus.servers import Alertmanager

pytestmark = pytest.mark.prometheus

WAITS = {"group_wait": "100ms", "group_interval": "1s", "repeat_interval": "4s"}
SEVERITIES = ("warning", "error", "critical")


@dataclass
class Desk:
    """Alertmanager, the webhooks it tells, and a receiver of ours with its ledger."""

    server: Alertmanager
    sink: HttpSink
    tries: Counter[str]
    receiver: Receiver
    ledger: Ledger

    def take(self, **changes: Any) -> None:
        """A record of the topic incidents, delivered."""
        now_ms = int(time.time() * 1000)
        document = {
            "incidentId": "i1", "scope": "meter", "meterId": "m-1", "feederId": "f-1", "family": "voltage-low",
            "anomalyType": "undervoltage", "status": "open", "severity": "WARNING", "openedAt": now_ms - 5000,
            "lastAnomalyAt": now_ms, "closedAt": None, "anomalies": 3, "alerts": 1, "message": "197 V",
        }  # fmt: skip
        notice = self.ledger.take(document | changes, 0, time.monotonic())
        assert notice is not None
        self.receiver.put(notice)
        self.receiver.deliver(time.monotonic())

    def told(self, path: str, status: str = "firing") -> list[str]:
        """Incidents that a webhook was told of, in order, repeats included."""
        return [
            alert["labels"]["incident"]
            for where, body in list(self.sink.taken)
            for alert in body["alerts"]
            if where == path and alert["status"] == status
        ]

    def hears(self, path: str, status: str = "firing", times: int = 1) -> bool:
        """Whether a webhook was told so often within 60 s."""
        return wait_until(lambda: len(self.told(path, status)) >= times, 60, poll_s=0.1)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with HttpSink() as sink:
        webhooks = {name: sink.url(f"/{name}") for name in SEVERITIES}
        with Alertmanager(tmp_path, webhooks, WAITS).start() as server:
            tries: Counter[str] = Counter()

            def count(receiver: str, severity: str, outcome: str) -> None:
                tries[outcome] += 1

            receiver = Receiver(server.url, http_post(2.0), count, most_s=1, refresh_s=60)
            yield Desk(server, sink, tries, receiver, Ledger())


def test_an_incident_reaches_the_webhook_of_its_severity_with_the_meter_named_and_is_resolved(desk: Desk) -> None:
    desk.take()
    assert desk.hears("/warning")
    (alert,) = desk.server.alerts()
    assert alert["annotations"]["meter"] == "m-1"
    assert alert["annotations"]["summary"] == "197 V"
    assert "m-1" not in str(alert["labels"])
    desk.take(status="closed", closedAt=int(time.time() * 1000))
    assert desk.hears("/warning", "resolved")
    assert not desk.told("/critical") + desk.told("/error")


def test_a_rise_of_severity_tells_the_other_webhook_and_ends_the_first_alert(desk: Desk) -> None:
    desk.take()
    assert desk.hears("/warning")
    desk.take(severity="CRITICAL", alerts=2)
    assert desk.hears("/critical")
    active = {alert["labels"]["severity"] for alert in desk.server.alerts() if alert["status"]["state"] == "active"}
    assert active == {"critical"}


def test_an_open_incident_is_repeated_no_more_often_than_the_repeat_interval(desk: Desk) -> None:
    desk.take()
    assert desk.hears("/warning", times=2), "never repeated"
    first, second = [at for at, path in desk.sink.times if path == "/warning"][:2]
    assert second - first >= 3.9


def test_a_webhook_that_is_dead_for_a_while_is_told_by_alertmanager_when_it_is_back(desk: Desk) -> None:
    desk.sink.answers = [503] * 3
    desk.take()
    assert desk.hears("/warning", times=4)
    assert set(desk.told("/warning")) == {"i1"}


def test_an_alertmanager_that_is_down_is_tried_again_and_then_knows_all(desk: Desk) -> None:
    desk.server.stop()
    desk.take()
    assert (desk.tries["failed"], desk.receiver.waiting) == (1, 1)
    desk.server.start()

    def delivered() -> bool:
        desk.receiver.deliver(time.monotonic())
        return desk.receiver.waiting == 0

    assert wait_until(delivered, 15, poll_s=0.2)
    assert desk.hears("/warning")
    assert desk.tries["sent"] >= 1
