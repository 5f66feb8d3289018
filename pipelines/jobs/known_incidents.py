"""The incidents that a batch may continue, replace or close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.anomalies.rules import FAMILIES
from pipelines.settings import Incidents, Settings
from pipelines.small_tables import moment, read_rows, scan_rows
from pipelines.tables import ANOMALIES, INCIDENTS
from pipelines.transforms.incident_relations import Key, key_of
from pipelines.transforms.incident_rows import Anomaly
from pipelines.transforms.incidents import NEEDED, incident_key, off_delay

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
    """The anomalies of the table of the given keys, each key from its moment on.

    A meter that is silent for weeks has a moment weeks ago. Of that time no other family is read, and of the other
    meters of its family no more than some thousand rows are in memory at a time.
    """
    if not since:
        return []
    meters, feeders = _ids(since, "meter"), _ids(since, "feeder")
    return [
        row
        for piece in scan_rows(settings, ANOMALIES, columns=NEEDED, where=_where(since))
        for row in piece.filter(_is_of(piece, meters, feeders)).to_pylist()
        if (key := incident_key(row)) is not None and key in since and row["event_ts"] >= since[key]
    ]


def _where(since: Mapping[Key, datetime]) -> str:
    """Predicate of the keys' families, each from the earliest moment of its keys on."""
    earliest: dict[str, datetime] = {}
    for (_, _, family), at in since.items():
        earliest[family] = min(earliest.get(family, at), at)
    return " OR ".join(f"({_of_family(family)} AND {_from(at)})" for family, at in sorted(earliest.items()))


def _of_family(family: str) -> str:
    types = ", ".join(f"'{name}'" for name, of in FAMILIES.items() if of == family)
    return f"anomaly_type IN ({types})"


def _from(at: datetime) -> str:
    return f"event_date >= '{at.date()}' AND event_ts >= {moment(at)}"


def _ids(keys: Iterable[Key], wanted: str) -> pa.Array:
    return pa.array({scope_id for scope, scope_id, _ in keys if scope == wanted}, pa.string())


def _is_of(rows: pa.Table, meters: pa.Array, feeders: pa.Array) -> pa.ChunkedArray:
    """Whether an anomaly is one of these meters', or one of these feeders' and no meter's.

    Not part of the predicate: ids came with the data.
    """
    of_feeder = pc.and_(pc.is_null(rows["meter_id"]), pc.is_in(rows["feeder_id"], feeders))
    return pc.or_(pc.is_in(rows["meter_id"], meters), of_feeder)


def _is_remade(row: Row, since: Mapping[Key, datetime]) -> bool:
    key = key_of(row)
    return key in since and bool(row["opened_at"] >= since[key])
