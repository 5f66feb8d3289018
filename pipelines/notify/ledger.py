"""What was said of each incident, and what is to be said next. No clock, no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Document = Mapping[str, Any]
"""An incident as it stands on its topic."""

Kind = Literal["opened", "escalated", "reminder", "closed"]

CLOSED_KEPT = 20_000
"""So many closed incidents are remembered, so that a record sent twice says nothing twice."""


@dataclass(frozen=True)
class Notice:
    """Something to be said. `offset`: where the record stands that wants it. `told`: at which severities it was."""

    kind: Kind
    document: Document
    offset: int
    told: frozenset[str] = frozenset()

    @property
    def incident_id(self) -> str:
        """Whose."""
        return str(self.document["incidentId"])

    @property
    def severity(self) -> str:
        """WARNING, ERROR or CRITICAL."""
        return str(self.document["severity"])


@dataclass(frozen=True)
class Told:
    """An incident as it stands, when it was told last (seconds), and how often it was repeated since.

    `alerts`: the most it ever had. A feeder's incident that comes later explains a meter's and takes its alerts back,
    but not what was said. `severities`: those it had when it was told, since it is open.
    """

    document: Document
    at_s: float
    alerts: int
    severities: frozenset[str]
    repeats: int = 0

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return bool(self.document["status"] == "open")


class Ledger:
    """The newest state of every incident that somebody was told of.

    The pipeline has decided when to speak: `alerts` counts the opening and every rise, less what is muted, too soon, or
    explained by a feeder's incident. The ledger speaks once for each rise of `alerts`, and once at the end of what was
    told, also when it has been explained meanwhile.
    """

    def __init__(self) -> None:
        self._told: dict[str, Told] = {}

    def take(self, document: Document, offset: int, now_s: float) -> Notice | None:
        """A record of the topic; None when it has nothing new to tell.

        Who drops what is told of the records that an earlier life took knows what it said.
        """
        told = self._told.get(str(document["incidentId"]))
        before = told.alerts if told else 0
        if not document["alerts"] and not (told and told.is_open):
            return None
        kind: Kind | None = None
        if document["status"] == "closed":
            kind = "closed" if told is None or told.is_open else None
        elif document["alerts"] > before:
            kind = "escalated" if told else "opened"
        if kind is None:
            if told and told.is_open:  # newer figures, nothing to say
                self._keep(replace(told, document=document))
            return None
        heard = told.severities if told and told.is_open else frozenset[str]()
        severities = heard | {str(document["severity"])}
        self._keep(Told(document, now_s, max(before, int(document["alerts"])), severities))
        return Notice(kind, document, offset, heard)

    def remove(self, incident_id: str, offset: int) -> Notice | None:
        """A tombstone: the incident never was. Who was told of it hears that it is over."""
        told = self._told.pop(incident_id, None)
        if told is None or not told.is_open:
            return None
        closed = {**told.document, "status": "closed", "closedAt": told.document["lastAnomalyAt"]}
        return Notice("closed", closed, offset, told.severities)

    def reminders(self, now_s: float, *, every_s: float, most: int) -> Iterator[Notice]:
        """Open incidents that were told `every_s` ago or more, each at most `most` times since its last rise.

        Not of one that is explained by now: its feeder's is repeated.
        """
        for told in list(self._told.values()):
            is_due = told.repeats < most and now_s - told.at_s >= every_s
            if told.is_open and told.document["alerts"] and is_due:
                self._keep(replace(told, at_s=now_s, repeats=told.repeats + 1))
                yield Notice("reminder", told.document, -1)

    def open(self) -> list[Document]:
        """Open incidents that somebody was told of."""
        return [told.document for told in self._told.values() if told.is_open]

    def _keep(self, told: Told) -> None:
        incident_id = str(told.document["incidentId"])
        if not told.is_open:
            self._told.pop(incident_id, None)  # to the end: the oldest closed ones are forgotten first
        self._told[incident_id] = told
        if len(self._told) > CLOSED_KEPT:
            oldest = next((name for name, one in self._told.items() if not one.is_open), None)
            if oldest is not None:
                del self._told[oldest]
