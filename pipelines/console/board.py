"""What the console knows at this moment: incidents, the latest findings, what operators said, and the clock.

Plain Python without a network: `apply` takes records as they come and returns what the open pages must hear of.
Everything here is on the wire's terms, camelCase and epoch milliseconds, since that is what the page reads.
"""

from __future__ import annotations

import heapq
import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.anomalies.rules import FAMILIES
from pipelines.incidents.operator_actions import action_problem

Document = dict[str, Any]

_RECENT = 300
_LATENCY_SPAN_MS = 60_000
_LATENCIES = 20_000


@dataclass(frozen=True)
class Record:
    """One Kafka record: which of our topics, its key and value, and the broker's time in epoch ms."""

    kind: str
    key: str | None
    value: bytes | None
    at_ms: int
    partition: int = 0
    offset: int = 0


@dataclass
class Board:
    """The live state. Not for several threads at once."""

    history: int = 1000
    incidents: dict[str, Document] = field(default_factory=dict)
    actions: dict[str, dict[str, Document]] = field(default_factory=dict)
    """By incident, the latest of each kind of action."""
    mutes: dict[str, Document] = field(default_factory=dict)
    """By `scope|scopeId`, the latest mute."""
    recent: deque[Document] = field(default_factory=lambda: deque(maxlen=_RECENT))
    window_end: int | None = None
    window_at: int | None = None
    """The latest window end that has closed, and when the broker heard of it."""
    anomalies_seen: int = 0
    _event_ms: int = 0
    _latencies: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    @property
    def clock_ms(self) -> int | None:
        """The data's clock: the largest event time heard of. Behind the wall's when the data are."""
        return max(self._event_ms, self.window_end or 0) or None

    def apply(self, records: Iterable[Record]) -> dict[str, Any]:
        """Take records in order; returns messages by name for the open pages: incidents, anomalies, actions."""
        changed: dict[str, Document | None] = {}
        found: list[Document] = []
        said: list[Document] = []
        for record in records:
            if record.kind == "incidents":
                self._incident(record, changed)
            elif record.kind == "actions":
                said += self._action(record)
            elif document := _document(record.value):
                if record.kind == "anomalies":
                    found.append(self._anomaly(document, record.at_ms))
                elif record.kind == "ticks" and (self.window_end or 0) < document.get("windowEnd", 0):
                    self.window_end, self.window_at = document["windowEnd"], record.at_ms
        gone = [key for key, value in changed.items() if value is None] + self._forget()
        rows = [value for key, value in changed.items() if value is not None and key in self.incidents]
        messages: dict[str, Any] = {"anomalies": found, "actions": said}
        if rows or gone:
            messages["incidents"] = {"changed": rows, "gone": gone}
        return {name: message for name, message in messages.items() if message}

    def snapshot(self) -> Document:
        """All of it, for a page that has just been opened."""
        return {
            "incidents": list(self.incidents.values()),
            "actions": [action for kinds in self.actions.values() for action in kinds.values()],
            "mutes": list(self.mutes.values()),
            "anomalies": list(self.recent),
            "clock": self.clock_ms,
        }

    def latency_ms(self, now_ms: int) -> Document:
        """Quantiles of the last minute: broker time of an anomaly of stage reading minus that of its reading."""
        values = sorted(ms for at, ms in self._latencies if at >= now_ms - _LATENCY_SPAN_MS)
        return {"n": len(values)} | {f"p{q}": quantile(values, q / 100) for q in (50, 99)}

    def _incident(self, record: Record, changed: dict[str, Document | None]) -> None:
        key, document = record.key or "", _document(record.value)
        if document is None:
            if self.incidents.pop(key, None) is not None:
                changed[key] = None
            return
        self.incidents[key] = changed[key] = document
        self._event_ms = max(self._event_ms, document.get("lastAnomalyAt") or 0)

    def _action(self, record: Record) -> list[Document]:
        document = _document(record.value)
        if document is None or action_problem(document):
            return []
        self.actions.setdefault(document["incidentId"], {})[document["action"]] = document
        if document["action"] == "mute":
            self.mutes[f"{document['scope']}|{document['scopeId']}"] = document
        return [document]

    def _anomaly(self, document: Document, at_ms: int) -> Document:
        source = document.pop("source", None) or {}
        document.pop("originalEvent", None)
        document |= {"at": at_ms, "family": FAMILIES.get(document.get("anomalyType", ""))}
        if document.get("stage") == "reading" and source.get("timestamp"):
            document["after"] = at_ms - source["timestamp"]
            self._latencies.append((at_ms, document["after"]))
        self._event_ms = max(self._event_ms, document.get("eventTime") or 0)
        self.anomalies_seen += 1
        self.recent.append(document)
        return document

    def _forget(self) -> list[str]:
        """Let go of the oldest closed incidents beyond `history`, with some slack so that it is seldom done."""
        closed = [(i["closedAt"] or 0, key) for key, i in self.incidents.items() if i["status"] == "closed"]
        if len(closed) <= self.history * 1.2:
            return []
        oldest = [key for _, key in heapq.nsmallest(len(closed) - self.history, closed)]
        for key in oldest:
            del self.incidents[key]
            self.actions.pop(key, None)
        return oldest


def quantile(ordered: list[int], share: float) -> int | None:
    """The value below which `share` of the ordered values lie; None without values.

    >>> quantile([1, 2, 3, 4], 0.5), quantile([7], 0.99), quantile([], 0.5)
    (2, 7, None)
    """
    return ordered[max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1)] if ordered else None


def _document(value: bytes | None) -> Document | None:
    try:
        found = json.loads(value or b"")
    except ValueError:
        return None
    return dict(found) if isinstance(found, Mapping) else None
