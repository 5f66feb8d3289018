"""Incidents of meters that stay open for long, remembered from batch to batch: their anomalies are not read again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import nlargest
from typing import Any

from pipelines.transforms.incident_relations import Key, key_of
from pipelines.transforms.incident_rows import Session

_LONG_S = 6 * 3600.0
_MOST = 10_000


@dataclass
class LongIncidents:
    """Sessions of one run of the query, some kilobytes each, at most `_MOST`; the longest stay.

    Nothing of it outlives the process: rules may change at a start, and each incident is then read in full once more.
    """

    _sessions: dict[Key, Session] = field(default_factory=dict)

    def continued(self, touched: Mapping[Key, datetime], since: Mapping[Key, datetime]) -> dict[Key, Session]:
        """Those that the anomalies of a batch can only go on with: all of a key's come after what is remembered, and
        reach no earlier incident. A replay or a late anomaly does not."""
        return {
            key: session
            for key, session in self._sessions.items()
            if key in touched and touched[key] > session.last["event_ts"] and since[key] == session.row["opened_at"]
        }

    def remember(self, found: Iterable[Session], still_open: Collection[str]) -> None:
        """Take the sessions that a batch has found, and forget those that are not open any more."""
        self._sessions.update({key_of(session.row): session for session in found})
        long = (session for session in self._sessions.values() if _is_long(session.row, still_open))
        longest = nlargest(_MOST, long, key=lambda session: session.row["duration_s"])
        self._sessions = {key_of(session.row): session for session in longest}


def _is_long(row: Mapping[str, Any], still_open: Collection[str]) -> bool:
    return row["scope"] == "meter" and row["duration_s"] >= _LONG_S and row["incident_id"] in still_open
