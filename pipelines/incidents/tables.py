"""What the tables hold for the incidents: incidents that still matter, anomalies by key, and which are new."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.anomalies.rules import FAMILIES
from pipelines.incidents.relations import Key
from pipelines.incidents.rows import Anomaly
from pipelines.incidents.sessions import NEEDED, incident_key
from pipelines.incidents.update import KnownIncidents, Updated, earliest_end
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, moment, read_rows, scan_rows
from pipelines.tables import ANOMALIES, INCIDENTS, RECOMPUTATIONS

Row = dict[str, Any]

_SLACK = timedelta(hours=6)
"""So much more of the past is remembered than an update needs: late anomalies do not make the table be read again."""
_MOST_ROWS = 20_000


def read_known(settings: Settings, touched: Mapping[Key, datetime]) -> KnownIncidents:
    """The incidents that anomalies may continue, replace or adopt, and all that are open, from the table."""
    earliest = earliest_end(touched, settings.session_rules) if touched else None
    return KnownIncidents(_matter(settings, earliest), settings.session_rules)


class IncidentsInMemory:
    """The same, read once and kept up by the only writer of the table."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rules = settings.session_rules
        self._rows: dict[str, Row] | None = None
        self._since: datetime | None = None
        """Closed incidents of meters are here when their last anomaly is at least this late; None: none of them."""

    def rows(self) -> Iterable[Row]:
        """All rows that are remembered."""
        if self._rows is None:
            self._read(None)
        assert self._rows is not None
        return self._rows.values()

    def rows_since(self, since: datetime) -> list[Row]:
        """Those that are open or had their last anomaly at or after a moment."""
        self._reach(since)
        return [row for row in self.rows() if row["status"] == "open" or row["last_anomaly_at"] >= since]

    def known(self, touched: Mapping[Key, datetime]) -> KnownIncidents:
        """As `read_known`; parents that can have no child among the others are left out."""
        earliest = earliest_end(touched, self._rules) if touched else None
        self._reach(earliest)
        near = [r for r in self.rows() if r["status"] == "open" or (earliest and r["last_anomaly_at"] >= earliest)]
        oldest = min([*(r["opened_at"] for r in near), *touched.values()], default=None)
        if oldest is None:
            return KnownIncidents([], self._rules)
        ids = {row["incident_id"] for row in near}
        parents_since = oldest - timedelta(seconds=self._rules.off_delay)
        parents = (r for r in self.rows() if r["scope"] == "feeder" and r["last_anomaly_at"] >= parents_since)
        return KnownIncidents([*near, *(r for r in parents if r["incident_id"] not in ids)], self._rules)

    def take(self, updated: Updated, touched: Mapping[Key, datetime]) -> None:
        """What an update has written."""
        assert self._rows is not None
        self._rows |= {row["incident_id"]: row for row in updated.rows}
        for name in updated.gone:
            self._rows.pop(name, None)
        if len(self._rows) > _MOST_ROWS and touched:
            self._since = since = earliest_end(touched, self._rules)
            self._rows = {
                name: row
                for name, row in self._rows.items()
                if row["status"] == "open" or row["scope"] == "feeder" or row["last_anomaly_at"] >= since
            }

    def _reach(self, since: datetime | None) -> None:
        if self._rows is None or (since is not None and (self._since is None or since < self._since)):
            self._read(since and since - _SLACK)

    def _read(self, since: datetime | None) -> None:
        self._rows = {row["incident_id"]: row for row in _matter(self._settings, since)}
        self._since = since


def _matter(settings: Settings, since: datetime | None) -> list[Row]:
    """Rows that are open, of a feeder, or ended at or after a moment. A meter's incident may outlive its parent."""
    where = "status = 'open' OR scope = 'feeder'"
    if since is not None:
        where += f" OR last_anomaly_at >= {moment(since)}"
    rows: list[Row] = read_rows(settings, INCIDENTS, where=where).to_pylist()
    return rows


class AnomaliesArchive:
    """What of the anomalies is new to the table, which this query alone writes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def new(self, events: Iterable[Row]) -> list[Row]:
        """The first occurrence, by (partition, offset), of each id that the table does not have; equal ids have equal
        event times. What a recompute has withdrawn stays so when it comes again.
        """
        first: dict[str, Row] = {}
        for event in sorted(events, key=lambda event: (event["kafka_partition"], event["kafka_offset"])):
            first.setdefault(event["anomaly_id"], event)
        if not first:
            return []
        days = ", ".join(f"'{day}'" for day in sorted({event["event_date"] for event in first.values()}))
        times = [event["event_ts"] for event in first.values()]
        where = f"event_date IN ({days}) AND event_ts BETWEEN {moment(min(times))} AND {moment(max(times))}"
        stored = read_rows(self._settings, ANOMALIES, columns=["anomaly_id"], where=where)["anomaly_id"]
        ids = pa.array(first, pa.string())
        known = {*ids.filter(pc.is_in(ids, stored)).to_pylist(), *self._withdrawn}
        return [event for name, event in first.items() if name not in known]

    @cached_property
    def _withdrawn(self) -> frozenset[str]:
        """Ids of anomalies that `gridwatch recompute` took back: read once, since it needs the pipeline stopped."""
        where = f"table_name = '{ANOMALIES.name}' AND change = 'gone'"
        return frozenset(read_rows(self._settings, RECOMPUTATIONS, columns=["key"], where=where)["key"].to_pylist())


def as_table(events: Iterable[Row]) -> pa.Table:
    """Rows of the table anomalies, in Arrow."""
    return pa.Table.from_pylist(list(events), schema=arrow_schema(ANOMALIES))


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
