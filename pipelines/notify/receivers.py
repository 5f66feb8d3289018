"""Who is told: webhooks, one a severity, and an Alertmanager. Each keeps what it could not deliver and tries again."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from pipelines.notify.ledger import Document, Notice

Outcome = Literal["sent", "failed", "refused"]
Post = Callable[[str, Any], Outcome]
"""Posts a document as JSON to a URL."""

Count = Callable[[str, str, Outcome], None]
"""Told of every try: receiver, severity, outcome."""

_MALFORMED = (400, 413, 422)
"""Answers that the same document will get again; everything else may pass: a dead host, a wrong key, a busy server."""

ALERTMANAGER_PATH = "/api/v2/alerts"
_CHUNK = 200


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A POST that is sent elsewhere would go on as a GET without the document, and a login page answers 200."""

    def redirect_request(self, *_: object) -> None:
        """The answer stands as the error it is."""


def http_post(timeout_s: float) -> Post:
    """A `Post` over HTTP. `failed` is worth another try, `refused` is not. A redirect is not followed: it failed."""
    opener = urllib.request.build_opener(_NoRedirect)

    def post(url: str, document: Any) -> Outcome:
        body = json.dumps(document).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"}, method="POST")
        try:
            with opener.open(request, timeout=timeout_s):
                return "sent"
        except urllib.error.HTTPError as answer:
            return "refused" if answer.code in _MALFORMED else "failed"
        except (OSError, ValueError, http.client.HTTPException):  # nobody there, no answer in time, not HTTP
            return "failed"

    return post


class Patience:
    """When to try again: after 1, 2, 4 ... `most_s` seconds without success."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._pause_s = 0.0
        self._not_before_s = 0.0

    def may_try(self, now_s: float) -> bool:
        """Whether the pause is over."""
        return now_s >= self._not_before_s

    def failed(self, now_s: float) -> None:
        """Wait longer."""
        self._pause_s = min(max(1.0, self._pause_s * 2), self._most_s)
        self._not_before_s = now_s + self._pause_s

    def succeeded(self) -> None:
        """The next failure begins with 1 s again."""
        self._pause_s = self._not_before_s = 0.0


class Webhook:
    """One URL. While it is dead, the newest notice of each incident waits, not every one that was missed."""

    def __init__(self, severity: str, url: str, post: Post, count: Count, *, most_s: float) -> None:
        self.name = f"webhook-{severity.lower()}"
        self._severity = severity
        self._url = url
        self._post = post
        self._count = count
        self._patience = Patience(most_s)
        self._waiting: dict[str, Notice] = {}

    def put(self, notice: Notice) -> None:
        """Take a notice of this severity, and the end of what was told at it; others are another webhook's."""
        is_end = notice.kind == "closed" and self._severity in notice.told
        if notice.severity != self._severity and not is_end:
            return
        earlier = self._waiting.pop(notice.incident_id, None)
        if notice.kind == "reminder" and earlier is not None:
            notice = earlier  # it has not even heard of the opening
        elif earlier is not None and earlier.offset >= 0:
            notice = replace(notice, offset=min(earlier.offset, notice.offset))
        self._waiting[notice.incident_id] = notice

    @property
    def waiting(self) -> int:
        """Notices not delivered."""
        return len(self._waiting)

    @property
    def oldest_offset(self) -> int | None:
        """Offset of the oldest record whose notice is not delivered."""
        return min((notice.offset for notice in self._waiting.values() if notice.offset >= 0), default=None)

    def deliver(self, now_s: float) -> None:
        """Send what waits, in order, up to the first failure."""
        while self._waiting and self._patience.may_try(now_s):
            incident_id, notice = next(iter(self._waiting.items()))
            outcome = self._post(self._url, {"kind": notice.kind, "incident": dict(notice.document)})
            self._count(self.name, notice.severity, outcome)
            if outcome == "failed":
                self._patience.failed(now_s)
                return
            self._patience.succeeded()
            del self._waiting[incident_id]


class Alertmanager:
    """Posts changes at once, and all open incidents every `refresh_s`: an alert not heard of again would be resolved.

    Its own configuration routes by the label `severity`, groups, and limits repeats.
    """

    name = "alertmanager"

    def __init__(
        self, url: str, post: Post, count: Count, *, most_s: float, refresh_s: float, open_ones: Iterable[Document] = ()
    ) -> None:
        self._url = url.rstrip("/") + ALERTMANAGER_PATH
        self._post = post
        self._count = count
        self._patience = Patience(most_s)
        self._refresh_s = refresh_s
        self._refreshed_s = float("-inf")
        self._active = {document["incidentId"]: as_alert(document) for document in open_ones}
        self._waiting: dict[str, tuple[dict[str, Any], int]] = {}

    def put(self, notice: Notice) -> None:
        """Take a notice; a new severity is a new alert, and the one before it is over."""
        if notice.kind == "reminder":  # repeating is Alertmanager's own business
            return
        alert = as_alert(notice.document)
        earlier = self._active.pop(notice.incident_id, None)
        if notice.kind != "closed":
            self._active[notice.incident_id] = alert
        if earlier is not None and earlier["labels"] != alert["labels"]:
            ended = {**earlier, "endsAt": _utc(notice.document["lastAnomalyAt"])}
            self._wait(f"{notice.incident_id}/{earlier['labels']['severity']}", ended, notice.offset)
        self._wait(f"{notice.incident_id}/{alert['labels']['severity']}", alert, notice.offset)

    @property
    def waiting(self) -> int:
        """Alerts not delivered."""
        return len(self._waiting)

    @property
    def oldest_offset(self) -> int | None:
        """Offset of the oldest record that is not delivered."""
        return min((offset for _, offset in self._waiting.values()), default=None)

    def deliver(self, now_s: float) -> None:
        """Post what has changed, and every so often all that is open."""
        if not self._patience.may_try(now_s):
            return
        wanted = [alert for alert, _ in self._waiting.values()]
        is_due = now_s - self._refreshed_s >= self._refresh_s
        if is_due:
            changed = set(map(id, wanted))
            wanted += [alert for alert in self._active.values() if id(alert) not in changed]
        if not self._post_all(wanted, now_s):
            return
        if is_due:
            self._refreshed_s = now_s
        self._waiting.clear()

    def _post_all(self, alerts: list[dict[str, Any]], now_s: float) -> bool:
        for start in range(0, len(alerts), _CHUNK):
            chunk = alerts[start : start + _CHUNK]
            outcome = self._post(self._url, chunk)
            for alert in chunk:
                self._count(self.name, alert["labels"]["severity"].upper(), outcome)
            if outcome == "failed":
                self._patience.failed(now_s)
                return False
            self._patience.succeeded()
        return True

    def _wait(self, key: str, alert: dict[str, Any], offset: int) -> None:
        _, earlier = self._waiting.pop(key, (alert, offset))
        self._waiting[key] = alert, min(earlier, offset)


def as_alert(document: Document) -> dict[str, Any]:
    """An incident as Alertmanager wants it. Its labels are its identity; what changes is in the annotations.

    >>> alert = as_alert({"incidentId": "i1", "scope": "feeder", "feederId": "f1", "family": "feeder-supply",
    ...     "anomalyType": "feeder_outage", "status": "open", "severity": "CRITICAL", "openedAt": 0, "alerts": 1,
    ...     "anomalies": 3, "message": "dead", "closedAt": None})
    >>> alert["labels"]["severity"], alert["startsAt"], "endsAt" in alert
    ('critical', '1970-01-01T00:00:00+00:00', False)
    """
    labels = {
        "alertname": "GridIncident",
        "incident": document["incidentId"],
        "severity": document["severity"].lower(),
        "family": document["family"],
        "scope": document["scope"],
        "feeder": document.get("feederId") or "unknown",
    }
    annotations = {
        "summary": document["message"],
        "anomaly_type": document["anomalyType"],
        "meter": document.get("meterId") or "",
        "anomalies": str(document["anomalies"]),
    }
    alert = {"labels": labels, "annotations": annotations, "startsAt": _utc(document["openedAt"])}
    if document["status"] == "closed":
        alert["endsAt"] = _utc(document.get("closedAt") or document["openedAt"])
    return alert


def _utc(epoch_ms: int) -> str:
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat()
