"""Receivers over real HTTP: routing by severity, a dead endpoint is tried again and counted, a refusal is not."""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from pipelines.local.ports import free_port
from pipelines.notify.ledger import Notice
from pipelines.notify.receivers import Alertmanager, Webhook, http_post
from tests.http_sink import HttpSink

INCIDENT = {
    "incidentId": "i1", "scope": "meter", "meterId": "m-1", "feederId": "f-1", "family": "voltage-low",
    "anomalyType": "undervoltage", "status": "open", "severity": "ERROR", "openedAt": 1_000, "lastAnomalyAt": 2_000,
    "closedAt": None, "anomalies": 3, "alerts": 1, "message": "low",
}  # fmt: skip


@pytest.fixture
def sink() -> Iterator[HttpSink]:
    with HttpSink() as running:
        yield running


class Tries(Counter[tuple[str, str, str]]):
    """Counts as the notifier's metrics do."""

    def __call__(self, receiver: str, severity: str, outcome: str) -> None:
        self[receiver, severity, outcome] += 1


def notice(kind: Any = "opened", offset: int = 0, **changes: Any) -> Notice:
    return Notice(kind, {**INCIDENT, **changes}, offset)


def webhook(url: str, tries: Tries, severity: str = "ERROR") -> Webhook:
    return Webhook(severity, url, http_post(1.0), tries, most_s=8)


def test_a_webhook_takes_its_severity_only(sink: HttpSink) -> None:
    tries = Tries()
    hooks = [webhook(sink.url(f"/{name.lower()}"), tries, name) for name in ("WARNING", "ERROR", "CRITICAL")]
    for severity in ("WARNING", "CRITICAL"):
        for hook in hooks:
            hook.put(notice(severity=severity))
    for hook in hooks:
        hook.deliver(0)
    assert [(path, body["incident"]["severity"]) for path, body in sink.taken] == [
        ("/warning", "WARNING"),
        ("/critical", "CRITICAL"),
    ]
    assert tries == {("webhook-warning", "WARNING", "sent"): 1, ("webhook-critical", "CRITICAL", "sent"): 1}


def test_a_dead_endpoint_is_tried_again_with_growing_pauses_and_gets_the_newest_state() -> None:
    port, tries = free_port(), Tries()
    hook = webhook(f"http://127.0.0.1:{port}/x", tries)
    hook.put(notice(offset=3))
    tried_at = []
    for second in range(40):
        before = tries.total()
        hook.deliver(second)
        if tries.total() > before:
            tried_at.append(second)
    assert tried_at == [0, 1, 3, 7, 15, 23, 31, 39]
    hook.put(notice("closed", 8, status="closed"))
    assert (hook.waiting, hook.oldest_offset) == (1, 3)
    with HttpSink(port) as sink:
        hook.deliver(47)
        assert [body["kind"] for _, body in sink.taken] == ["closed"]
    assert (hook.waiting, hook.oldest_offset) == (0, None)
    assert tries == {("webhook-error", "ERROR", "failed"): 8, ("webhook-error", "ERROR", "sent"): 1}


def test_a_server_that_is_busy_is_tried_again_and_one_that_finds_the_document_malformed_is_not(sink: HttpSink) -> None:
    tries = Tries()
    hook = webhook(sink.url("/x"), tries)
    for incident_id in ("a", "b"):
        hook.put(notice(incidentId=incident_id))
    sink.answers = [503, 400, 200]
    for second in range(3):
        hook.deliver(second)
    assert [body["incident"]["incidentId"] for _, body in sink.taken] == ["a", "a", "b"]
    assert Counter(outcome for (_, _, outcome), n in tries.items() for _ in range(n)) == {
        "failed": 1, "refused": 1, "sent": 1,
    }  # fmt: skip


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 2xx\r\n\r\n", b""])
def test_an_endpoint_that_speaks_something_else_is_tried_again(said: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            caller, _ = server.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(said)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert http_post(5.0)(f"http://127.0.0.1:{server.getsockname()[1]}/x", {}) == "failed"
        thread.join(5)


@pytest.mark.parametrize("url", ["http://127.0.0.1/a b", "http://127.0.0.1:port/", "http://"])
def test_an_address_that_leads_nowhere_ends_nothing(url: str) -> None:
    assert http_post(1.0)(url, {}) == "failed"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_taken_for_a_delivery(sink: HttpSink, code: int) -> None:
    sink.answers = [code]
    sink.location = sink.url("/login")
    assert http_post(1.0)(sink.url("/hook"), {}) == "failed"
    assert [path for path, _ in sink.taken] == ["/hook"]


def test_a_reminder_does_not_replace_an_opening_that_was_never_heard() -> None:
    hook = webhook(f"http://127.0.0.1:{free_port()}/x", Tries())
    hook.put(notice(offset=3))
    hook.put(notice("reminder", -1))
    assert hook.oldest_offset == 3


def alertmanager(sink: HttpSink, tries: Tries, **options: Any) -> Alertmanager:
    return Alertmanager(sink.url(""), http_post(1.0), tries, most_s=8, refresh_s=60, **options)


def posted(sink: HttpSink) -> list[list[tuple[str, str, bool]]]:
    """Incident, severity and whether it has ended, of each post."""
    return [[(a["labels"]["incident"], a["labels"]["severity"], "endsAt" in a) for a in body] for _, body in sink.taken]


def test_alertmanager_hears_of_changes_at_once_and_of_open_incidents_again_and_again(sink: HttpSink) -> None:
    receiver = alertmanager(sink, Tries(), open_ones=[INCIDENT | {"incidentId": "old"}])
    receiver.deliver(0)
    receiver.put(notice(offset=4))
    for second in (1, 59, 60):
        receiver.deliver(second)
    receiver.put(notice("closed", 5, status="closed", closedAt=3_000))
    receiver.deliver(61)
    receiver.deliver(120)
    assert posted(sink) == [
        [("old", "error", False)],
        [("i1", "error", False)],
        [("old", "error", False), ("i1", "error", False)],
        [("i1", "error", True)],
        [("old", "error", False)],
    ]
    assert {path for path, _ in sink.taken} == {"/api/v2/alerts"}


def test_a_rise_of_severity_ends_the_alert_of_the_severity_before_it(sink: HttpSink) -> None:
    receiver = alertmanager(sink, Tries())
    receiver.put(notice())
    receiver.deliver(0)
    receiver.put(notice("escalated", 1, severity="CRITICAL"))
    receiver.deliver(1)
    assert posted(sink)[-1] == [("i1", "error", True), ("i1", "critical", False)]
    assert "m-1" not in json.dumps([alert["labels"] for alert in sink.taken[-1][1]])


def test_what_alertmanager_did_not_take_waits(sink: HttpSink) -> None:
    receiver = alertmanager(sink, Tries())
    receiver.put(notice(offset=7))
    sink.answers = [500]
    receiver.deliver(0)
    assert (receiver.waiting, receiver.oldest_offset) == (1, 7)
    receiver.deliver(1)
    assert (receiver.waiting, receiver.oldest_offset) == (0, None)
