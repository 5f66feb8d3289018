"""What anomalies and the clock change about the incidents: one `update` for the running pipeline and for recompute.

Plain Python over rows; it reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from pipelines.anomalies.rules import RANKS
from pipelines.incidents.relations import Key, key_of, relate
from pipelines.incidents.rows import Anomaly, Session, ends, opens
from pipelines.incidents.sessions import cut, incident_key, off_delay
from pipelines.settings import Incidents

Row = dict[str, Any]


@dataclass(frozen=True)
class Updated:
    """What is different afterwards."""

    rows: list[Row]
    """Incidents that are new, were made again, closed, or have another parent: to be stored and sent."""
    gone: list[str]
    """Ids that no incident has any more: to be removed, and to be sent as tombstones."""
    current: list[Row]
    """All known incidents as they are now."""
    sessions: list[Session]
    """What it takes to go on with the touched incidents."""


def update(
    events: Iterable[Anomaly],
    clock: datetime | None,
    *,
    known: KnownIncidents,
    since: Mapping[Key, datetime],
    rules: Incidents,
    steps_s: tuple[float, float],
    begun: Mapping[Key, Session] = MappingProxyType({}),
) -> Updated:
    """The incidents after some anomalies have come or changed, and the clock has moved.

    `events`: all anomalies of the touched keys as they are now, each key from `since` less `look_back` on; of the keys
    in `begun` only what came after the session's last one. `since` is `KnownIncidents.reach_back`; `rules` are the
    settings with the operators' mutes; `steps_s` as in `cut`. `clock` is the latest closed window end: incidents whose
    off delay is over by it are closed, touched or not. The same input gives the same rows, in any order of events.
    """
    found = cut(events, begun, clock=clock, settings=rules, step_s=steps_s)
    # What lies before a key's moment was read to count k of n, and belongs to earlier incidents.
    fresh = [session.row for session in found if session.row["opened_at"] >= since[key_of(session.row)]]
    gone = known.vanished(since, fresh)
    closed = known.closed_by(clock, since)
    others = known.others(fresh, gone, closed)
    related = relate(fresh, others, settings=rules, lead_s=steps_s[1])
    decided = {row["incident_id"] for row in related}
    rows = [*related, *(row for row in closed if row["incident_id"] not in decided)]
    current = {row["incident_id"]: row for row in (*others, *rows)}
    return Updated(rows, gone, list(current.values()), found)


def first_of_each_key(events: Iterable[Anomaly]) -> dict[Key, datetime]:
    """Event time of the first anomaly of each incident key."""
    first: dict[Key, datetime] = {}
    for event in events:
        if (key := incident_key(event)) is not None:
            first[key] = min(first.get(key, event["event_ts"]), event["event_ts"])
    return first


def is_news(event: Anomaly, open_rows: Mapping[Key, Row]) -> bool:
    """Whether an anomaly may open an incident, end it, make it worse or give it another beginning.

    What only goes on with an open incident is no news: it may wait for others.
    """
    key = incident_key(event)
    if key is None:
        return False
    row = open_rows.get(key)
    if row is None:
        return opens(event)
    is_worse = opens(event) and (
        RANKS[event["severity"]] > RANKS[row["severity"]] or event["anomaly_type"] == "implausible_value"
    )
    return ends(event) or is_worse or bool(event["event_ts"] < row["opened_at"])


@dataclass(frozen=True)
class KnownIncidents:
    """Incidents that are open, or whose end is near enough to the events to matter, and their possible parents.

    `touched` is, everywhere, the event time of the first of the events that a key has. `settings` are those of the
    sessions (`Settings.session_rules`).
    """

    rows: list[Row]
    settings: Incidents

    def reach_back(self, touched: Mapping[Key, datetime]) -> dict[Key, datetime]:
        """The opening of the earliest incident that a key's anomalies may continue, or their own first event time."""
        since = dict(touched)
        for row in self.rows:
            key = key_of(row)
            if key in touched and self._over_at(row) >= touched[key]:
                since[key] = min(since[key], row["opened_at"])
        return since

    def vanished(self, since: Mapping[Key, datetime], fresh: Iterable[Row]) -> list[str]:
        """Ids that the new sessions of the keys of `reach_back` do not have any more."""
        kept = {row["incident_id"] for row in fresh}
        return [row["incident_id"] for row in self.rows if _is_remade(row, since) and row["incident_id"] not in kept]

    def closed_by(self, clock: datetime | None, since: Mapping[Key, datetime]) -> list[Row]:
        """Open incidents that `reach_back` leaves alone and whose off delay has passed at `clock`, closed."""
        if clock is None:
            return []
        return [
            row | {"status": "closed", "closed_at": self._over_at(row)}
            for row in self.rows
            if row["status"] == "open" and self._over_at(row) <= clock and not _is_remade(row, since)
        ]

    def others(self, fresh: Iterable[Row], gone: Iterable[str], closed: Iterable[Row]) -> list[Row]:
        """What stays of the known incidents beside new sessions, the closed ones as they are now."""
        newest = {row["incident_id"]: row for row in (*self.rows, *closed)}
        replaced = {*gone, *(row["incident_id"] for row in fresh)}
        return [row for name, row in newest.items() if name not in replaced]

    def _over_at(self, row: Row) -> datetime:
        last: datetime = row["last_anomaly_at"]
        return last + off_delay(row["family"], self.settings)


def earliest_end(touched: Mapping[Key, datetime], settings: Incidents) -> datetime:
    """An incident that is closed matters to the touched keys when its last anomaly is at least this late."""
    return min(touched.values()) - 2 * off_delay("silence", settings) - timedelta(seconds=settings.renotify)


def _is_remade(row: Row, since: Mapping[Key, datetime]) -> bool:
    key = key_of(row)
    return key in since and bool(row["opened_at"] >= since[key])
