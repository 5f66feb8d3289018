"""The incidents that a batch may continue, replace or close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.settings import Incidents, Settings
from pipelines.small_tables import moment, read_rows
from pipelines.tables import ANOMALIES, INCIDENTS
from pipelines.transforms.incident_relations import Key, key_of
from pipelines.transforms.incidents import NEEDED, Anomaly, incident_key, off_delay

Row = dict[str, Any]


@dataclass(frozen=True)
class KnownIncidents:
    """Incidents that are open, or whose end is near enough to the batch to matter.

    `touched` is, everywhere, the event time of the first anomaly that the batch has of a key.
    """

    rows: list[Row]
    settings: Incidents

    @classmethod
    def read(cls, settings: Settings, touched: Mapping[Key, datetime], before: datetime | None) -> KnownIncidents:
        """From the table: what is open, what was closed since `before`, and what ended no longer ago than the
        batch's earliest anomaly reaches. Also the incidents of feeders: a meter's may outlive its parent."""
        closed_since = before or datetime.fromtimestamp(0, UTC)
        rules = settings.session_rules
        where = f"status = 'open' OR scope = 'feeder' OR closed_at > {moment(closed_since)}"
        if touched:
            earliest = min(touched.values()) - 2 * off_delay("silence", rules) - timedelta(seconds=rules.renotify)
            where += f" OR last_anomaly_at >= {moment(earliest)}"
        return cls(read_rows(settings, INCIDENTS, where=where).to_pylist(), rules)

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

    def closed_by(self, clock: datetime | None, before: datetime | None, since: Mapping[Key, datetime]) -> list[Row]:
        """Incidents that `reach_back` leaves alone and whose off delay has passed at `clock`, closed; also those
        closed since `before`, so that a replay of the batch sends them again."""
        left_alone = [row for row in self.rows if not _is_remade(row, since)]
        return [self._close(row) for row in left_alone if self._is_due(row, clock, before)]

    def others(self, fresh: Iterable[Row], gone: Iterable[str], closed: Iterable[Row]) -> list[Row]:
        """What stays of the known incidents beside new sessions, the closed ones as they are now."""
        newest = {row["incident_id"]: row for row in (*self.rows, *closed)}
        replaced = {*gone, *(row["incident_id"] for row in fresh)}
        return [row for name, row in newest.items() if name not in replaced]

    def _is_due(self, row: Row, clock: datetime | None, before: datetime | None) -> bool:
        if row["status"] == "open":
            return clock is not None and self._over_at(row) <= clock
        return before is None or bool(row["closed_at"] > before)

    def _close(self, row: Row) -> Row:
        return row | {"status": "closed", "closed_at": row["closed_at"] or self._over_at(row)}

    def _over_at(self, row: Row) -> datetime:
        last: datetime = row["last_anomaly_at"]
        return last + off_delay(row["family"], self.settings)


def stored_anomalies(settings: Settings, since: Mapping[Key, datetime]) -> list[Anomaly]:
    """The anomalies of the table of the given keys, each key from its moment on."""
    if not since:
        return []
    earliest = min(since.values())
    where = f"event_date >= '{earliest.date()}' AND event_ts >= {moment(earliest)}"
    stored = read_rows(settings, ANOMALIES, columns=NEEDED, where=where)
    ids = pa.array(sorted({scope_id for _, scope_id, _ in since}))
    concerned = pc.or_(pc.is_in(stored["meter_id"], ids), pc.is_in(stored["feeder_id"], ids))
    return [
        row
        for row in stored.filter(concerned).to_pylist()
        if (key := incident_key(row)) is not None and key in since and row["event_ts"] >= since[key]
    ]


def _is_remade(row: Row, since: Mapping[Key, datetime]) -> bool:
    key = key_of(row)
    return key in since and bool(row["opened_at"] >= since[key])
