"""What incidents have to do with one another: a feeder's explains its meters', and one key does not notify too often.

Plain Python over rows of the table incidents, like `incidents`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.anomalies.rules import EXPLAINED_BY_FEEDER, RANKS
from pipelines.settings import Incidents

Row = Mapping[str, Any]

Key = tuple[str, str, str]
"""Scope (meter | feeder), scope id, family."""


def key_of(row: Row) -> Key:
    """The key whose sessions hold an incident."""
    return row["scope"], row["meter_id"] if row["scope"] == "meter" else row["feeder_id"], row["family"]


def relate(
    rows: Iterable[Row], settled: Iterable[Row] = (), *, settings: Incidents, lead_s: float
) -> list[dict[str, Any]]:
    """The rows with parent_id, alerts and muted decided, and those of `settled` whose parent changed by them.

    `settled`: other incidents, already decided, that may be parents or children of the rows, or that notified for
    the same key within `renotify` before. A meter's incident is a child of the feeder's when it opens from `lead_s`
    before it until the off delay after its last anomaly, and its family is one that the feeder explains.
    """
    fresh, others = list(rows), list(settled)
    feeders = [row for row in (*fresh, *others) if row["scope"] == "feeder"]
    parents = _Parents(feeders, settings, timedelta(seconds=lead_s))
    adopted = [other for other in others if parents.of(other) != other["parent_id"]]
    open_ids = {row["incident_id"] for row in (*fresh, *adopted)}
    decided = {row["incident_id"]: {**row, "parent_id": parents.of(row)} for row in (*fresh, *adopted)}
    notified: dict[Key, tuple[datetime, int]] = {}
    for row in sorted((*fresh, *others), key=lambda row: (row["opened_at"], row["incident_id"])):
        key = key_of(row)
        if row["incident_id"] in open_ids:
            _notify(decided[row["incident_id"]], notified, key, settings)
        elif row["alerts"]:
            notified[key] = _last_step(row)
    return list(decided.values())


class _Parents:
    """Which feeder incident explains a meter's, the latest to open of those that do."""

    def __init__(self, feeders: Sequence[Row], settings: Incidents, lead: timedelta) -> None:
        self._by_feeder: dict[str, list[Row]] = {}
        for row in sorted(feeders, key=lambda row: (row["opened_at"], row["incident_id"])):
            self._by_feeder.setdefault(row["feeder_id"], []).append(row)
        self._lead, self._off_delay = lead, timedelta(seconds=settings.off_delay)

    def of(self, row: Row) -> str | None:
        """Id of the parent, or None."""
        if row["scope"] != "meter" or row["family"] not in EXPLAINED_BY_FEEDER:
            return None
        found = [feeder for feeder in self._by_feeder.get(row["feeder_id"], ()) if self._explains(feeder, row)]
        return found[-1]["incident_id"] if found else None

    def _explains(self, feeder: Row, row: Row) -> bool:
        since, until = feeder["opened_at"] - self._lead, feeder["last_anomaly_at"] + self._off_delay
        return bool(since <= row["opened_at"] <= until)


def _notify(
    row: dict[str, Any],
    notified: dict[Key, tuple[datetime, int]],
    key: Key,
    settings: Incidents,
) -> None:
    """Sets alerts, and muted: why a step did not notify. A child notifies nobody."""
    row["alerts"], row["muted"] = 0, None
    if row["parent_id"] is not None:
        return
    for step in row["severity_history"]:
        at, rank = _moment(step["at"]), RANKS[step["severity"]]
        reason = _muted(row, at, settings) or _too_soon(notified.get(key), at, rank, settings)
        if reason is None:
            notified[key] = at, rank
            row["alerts"] += 1
        else:
            row["muted"] = reason


def _muted(row: Row, at: datetime, settings: Incidents) -> str | None:
    names = ("*", row["meter_id"], row["feeder_id"])
    found = (window for window in settings.mute_windows if window.who in names and window.start <= at < window.end)
    return next((f"muted until {window.end:%Y-%m-%d %H:%M}Z: {window.reason}" for window in found), None)


def _too_soon(last: tuple[datetime, int] | None, at: datetime, rank: int, settings: Incidents) -> str | None:
    if last is None or rank > last[1] or at - last[0] >= timedelta(seconds=settings.renotify):
        return None
    return f"notified at {last[0]:%H:%M:%S}Z, again after {settings.renotify:.0f} s or when it gets worse"


def _last_step(row: Row) -> tuple[datetime, int]:
    step = row["severity_history"][-1]
    return _moment(step["at"]), RANKS[step["severity"]]


def _moment(epoch_ms: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=epoch_ms)
