"""Open incidents of meters, remembered from update to update: their anomalies are not read again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest

from pipelines.incidents.relations import Key, key_of
from pipelines.incidents.rows import Session

_MOST = 10_000


@dataclass
class OpenSessions:
    """Sessions of one life of the query, some kilobytes each, at most `_MOST`; the longest stay.

    Nothing of it outlives the process: rules may change at a start, and each incident is then read in full once more.
    """

    _sessions: dict[Key, Session] = field(default_factory=dict)

    def continued(self, touched: Mapping[Key, datetime], since: Mapping[Key, datetime]) -> dict[Key, Session]:
        """Those that the anomalies of an update can only go on with: all of a key's come after what is remembered, and
        reach no earlier incident. A repeat or a late anomaly does not."""
        return {
            key: session
            for key in touched
            if (session := self._sessions.get(key)) is not None
            and touched[key] > session.last["event_ts"]
            and since[key] == session.row["opened_at"]
        }

    def remember(self, found: Iterable[Session], still_open: Collection[str]) -> None:
        """Take the sessions that an update has found, and forget those that are not open any more."""
        self._sessions.update({key_of(one.row): one for one in found if one.row["scope"] == "meter"})
        kept = [one for one in self._sessions.values() if one.row["incident_id"] in still_open]
        if len(kept) > _MOST:
            kept = nlargest(_MOST, kept, key=lambda one: one.row["duration_s"])
        self._sessions = {key_of(one.row): one for one in kept}
