"""The console between its parts: records from the threads to the board and the pages, actions to Kafka.

Everything but `send` and what is asked of the tables happens in the event loop's thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from kafka import KafkaProducer
from kafka.errors import KafkaError

from pipelines.anomalies.rules import FAMILIES
from pipelines.console.board import Board, Document, Record
from pipelines.console.explain import RULE_HELP
from pipelines.console.feed import Feed
from pipelines.console.gauges import Gauges, Rate
from pipelines.console.hub import Hub, as_event
from pipelines.console.tables import Tables, limits
from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.incidents.operator_actions import ACTION, action_problem
from pipelines.settings import Settings
from pipelines.topics import client_options

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

_SAMPLES = 600
_SEND_S = 5.0
_LONGEST_MUTE_MIN = 31 * 24 * 60


class Desk:
    """One running console."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.board = Board(settings.console.history)
        self.hub = Hub(settings.console.clients)
        self._tables = Tables(settings)
        # A thread of their own: questions to a store that hangs would take all those that actions are sent with.
        self._asking = ThreadPoolExecutor(1, "console-tables")
        self._samples: deque[Document] = deque(maxlen=_SAMPLES)
        self._health: Document = {}
        self._said: dict[str, str | None] = {"feed": "not connected yet"}
        self._findings = Rate()
        self._producer: Any = None
        self._producing = threading.Lock()
        self._threads: list[Feed | Gauges] = []

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to read."""

        def records(found: list[Record]) -> None:
            loop.call_soon_threadsafe(self._take, found)

        def status(part: str, problem: str | None) -> None:
            loop.call_soon_threadsafe(self._said.__setitem__, part, problem)

        def figures(found: Document) -> None:
            loop.call_soon_threadsafe(self._measure, found)

        self._threads = [Feed(self.settings, records, status), Gauges(self.settings, figures)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads."""
        self._asking.shutdown(wait=False, cancel_futures=True)
        for thread in self._threads:
            thread.stop()
        if self._producer is not None:
            self._producer.close(timeout=1)

    def greeting(self) -> bytes:
        """The first event of a page: all there is."""
        return as_event("snapshot", self.snapshot())

    def snapshot(self) -> Document:
        """Everything a page needs to begin with."""
        detection = self.settings.detection
        return self.board.snapshot() | {
            "health": self._health,
            "samples": list(self._samples),
            "canWrite": self.settings.console.token is not None,
            "limits": limits(detection, detection.nominal_voltage_v),
            "un": detection.nominal_voltage_v,
            "rules": {name: {"means": means, "look": look} for name, (means, look) in RULE_HELP.items()},
            "families": FAMILIES,
        }

    def document_of(self, asked: Mapping[str, Any]) -> Document:
        """The action that a page asks for, whole. Raises SettingsError, one line, when it makes no sense.

        In: actionId, incidentId, action and, as it needs them, verdict, minutes, operator, note.
        """
        if unknown := sorted(set(asked) - _ASKED):
            raise SettingsError(f"{unknown[0]} is no field of an action")
        incident = self.board.incidents.get(str(asked.get("incidentId")))
        if incident is None:
            raise SettingsError("incidentId names no incident that the console has at hand")
        scope = incident["scope"]
        document = {name: asked.get(name) for name in ("actionId", "action", "verdict", "incidentId")} | {
            "at": int(time.time() * 1000),
            "scope": scope,
            "scopeId": incident["meterId"] if scope == "meter" else incident["feederId"],
            **{name: str(asked[name]).strip() or None for name in ("operator", "note") if asked.get(name)},
            **(self._mute(asked.get("minutes")) if asked.get("action") == "mute" else {}),
        }
        if problem := action_problem(document):
            raise SettingsError(problem)
        return {field.name: document.get(field.name) for field in ACTION.fields}

    async def ask(
        self, question: Callable[Concatenate[Tables, Asked], Answer], *asked: Asked.args, **named: Asked.kwargs
    ) -> Answer:
        """The answer of the tables to one of their questions, one after the other."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._asking, partial(question, self._tables, *asked, **named))

    def send(self, document: Document) -> None:
        """Write an action to its topic and wait for the brokers. Not in the event loop.

        Raises InfrastructureUnavailable when they do not take it.
        """
        topic = self.settings.kafka.topics.actions
        try:
            with self._producing:
                if self._producer is None:
                    self._producer = KafkaProducer(
                        **client_options(self.settings.kafka), acks="all", bootstrap_timeout_ms=3000, max_block_ms=5000
                    )
            key = f"{document['incidentId']}|{document['action']}".encode()
            self._producer.send(topic, key=key, value=as_json(document)).get(timeout=_SEND_S)
        except (KafkaError, OSError) as error:
            raise InfrastructureUnavailable(f"{topic} did not take the action: {type(error).__name__}") from None

    def _mute(self, minutes: Any) -> Document:
        if isinstance(minutes, bool) or not isinstance(minutes, (int, float)) or not 0 <= minutes <= _LONGEST_MUTE_MIN:
            raise SettingsError(f"minutes = {minutes!r}: 0, which ends a mute, to {_LONGEST_MUTE_MIN}")
        begin = self.board.clock_ms
        if begin is None:
            raise SettingsError("nothing is known of the data's clock yet, so nothing can be muted")
        return {"muteFrom": begin, "muteUntil": begin + int(minutes * 60_000)}

    def _take(self, records: list[Record]) -> None:
        for name, message in self.board.apply(records).items():
            self.hub.publish(name, message)

    def _measure(self, found: Document) -> None:
        now_ms = int(time.time() * 1000)
        latency = self.board.latency_ms(now_ms)
        ends, judged = found.pop("ends"), found.pop("judgedEnds")
        archived = found.pop("archivedEnds")
        self._health = found | {
            "now": now_ms,
            "feed": {"ok": self._said["feed"] is None, "said": self._said["feed"]},
            "findings": self._findings.of(time.monotonic(), self.board.anomalies_seen),
            "latency": latency,
            "clock": self.board.clock_ms,
            "windowEnd": self.board.window_end or found["tableWindowEnd"],
            "windowAt": self.board.window_at,
            "alertsLag": sum(max(end - judged.get(p, 0), 0) for p, end in ends.items()) if judged and ends else None,
            "partitions": [
                {"partition": p, "end": end, "archived": archived.get(p), "judged": judged.get(p)}
                for p, end in sorted(ends.items())
            ],
        }
        sample = {
            "t": now_ms,
            "rate": found["rate"],
            "findings": self._health["findings"],
            "p50": latency["p50"],
            "p99": latency["p99"],
            "lag": found["archiveLag"],
        }
        self._samples.append(sample)
        self.hub.publish("health", {"health": self._health, "sample": sample})


_ASKED = frozenset({"actionId", "incidentId", "action", "verdict", "minutes", "operator", "note"})


def as_json(document: Document) -> bytes:
    """An action on the wire."""
    return json.dumps(document, ensure_ascii=False).encode()
