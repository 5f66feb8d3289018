"""The incidents that a batch may continue, replace or close, in the driver: few rows, plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.settings import Incidents, Settings
from pipelines.small_tables import arrow_schema, read_rows
from pipelines.tables import INCIDENTS
from pipelines.transforms.incidents import off_delay_s

Key = tuple[str, str, str]

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class KnownIncidents:
    """Incidents that are open, or whose end is near enough to the batch to matter."""

    rows: list[dict[str, Any]]
    settings: Incidents

    @classmethod
    def read(cls, settings: Settings, touched: Sequence[Any], before: datetime | None) -> KnownIncidents:
        """From the table: what is open, what was closed since `before`, and what ended no longer ago than the
        batch's earliest anomaly reaches."""
        reach = timedelta(seconds=2 * off_delay_s("silence", settings.incidents))
        since = before.replace(tzinfo=UTC) if before else datetime.fromtimestamp(0, UTC)
        where = (pc.field("status") == "open") | (pc.field("closed_at") > pa.scalar(since, pa.timestamp("us", "UTC")))
        if touched:
            earliest = min(row["since_ts"] for row in touched).replace(tzinfo=UTC) - reach
            where = where | (pc.field("last_anomaly_at") >= pa.scalar(earliest, pa.timestamp("us", "UTC")))
        rows = read_rows(settings, INCIDENTS, where=where).to_pylist()
        return cls(rows, settings.incidents)

    def reach_back(self, touched: Sequence[Any]) -> list[tuple[Any, ...]]:
        """(scope, scope id, family, since): the opening of the earliest incident that the key's anomalies may
        continue, or their own first event time."""
        opened: dict[Key, datetime] = {}
        first = {_key_of(row): row["since_ts"].replace(tzinfo=UTC) for row in touched}
        for row in self.rows:
            key = _incident_key(row)
            if key in first and self._over_at(row) >= first[key]:
                opened[key] = min(opened.get(key, first[key]), row["opened_at"])
        return [(*key, min(since, opened.get(key, since))) for key, since in first.items()]

    def vanished(self, reached: Sequence[tuple[Any, ...]], fresh: pa.Table) -> list[str]:
        """Ids that the new sessions of the keys of `reach_back` do not have any more."""
        since = {key[:3]: key[3] for key in reached}
        kept = set(fresh["incident_id"].to_pylist())
        return [
            row["incident_id"]
            for row in self.rows
            if (key := _incident_key(row)) in since
            and row["opened_at"] >= since[key]
            and row["incident_id"] not in kept
        ]

    def closed_by(
        self, clock: datetime | None, before: datetime | None, reached: Sequence[tuple[Any, ...]]
    ) -> pa.Table:
        """Incidents whose off delay has passed at `clock`, closed; also those closed since `before`, so that a replay
        of the batch sends them again. What `reach_back` makes anew is left out; an earlier incident of the same key
        is not."""
        since = {key[:3]: key[3] for key in reached}
        untouched = [row for row in self.rows if row["opened_at"] < since.get(_incident_key(row), _NEVER)]
        closed = [self._close(row) for row in untouched if self._is_due(row, clock, before)]
        return pa.Table.from_pylist(closed, schema=arrow_schema(INCIDENTS))

    def _is_due(self, row: dict[str, Any], clock: datetime | None, before: datetime | None) -> bool:
        if row["status"] == "open":
            return clock is not None and self._over_at(row) <= clock.replace(tzinfo=UTC)
        return before is None or bool(row["closed_at"] > before.replace(tzinfo=UTC))

    def _close(self, row: dict[str, Any]) -> dict[str, Any]:
        return row | {"status": "closed", "closed_at": row["closed_at"] or self._over_at(row)}

    def _over_at(self, row: dict[str, Any]) -> datetime:
        last: datetime = row["last_anomaly_at"]
        return last + timedelta(seconds=off_delay_s(row["family"], self.settings))


def _incident_key(row: dict[str, Any]) -> Key:
    return row["scope"], row["meter_id"] if row["scope"] == "meter" else row["feeder_id"], row["family"]


def _key_of(row: Any) -> Key:
    return row["scope"], row["scope_id"], row["family"]
