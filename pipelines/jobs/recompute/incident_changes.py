"""Incidents made anew of anomalies that changed, as the query incidents makes them of anomalies that came."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import Any

from pipelines.errors import DataRefused
from pipelines.jobs.known_incidents import KnownIncidents, stored_anomalies
from pipelines.jobs.operator_actions import OperatorActions
from pipelines.jobs.recompute.changes import Change, Row, changes_between
from pipelines.settings import Incidents, Settings
from pipelines.transforms.incident_relations import Key, key_of, relate
from pipelines.transforms.incident_rows import Anomaly
from pipelines.transforms.incidents import incident_key, look_back, off_delay, sessions


def incident_changes(
    settings: Settings, anomalies: Sequence[Change], *, clock: datetime, kept_since: date | None = None
) -> list[Change]:
    """The incidents that differ once the anomalies are changed; nothing needs to be written before.

    An incident that is open in the table and over by the clock stays so: the query closes it at its next window end,
    and says so. What "back" has ended is closed, since the query does that only when the event comes.
    `kept_since`: first day whose anomalies are surely kept. Raises DataRefused when one of these incidents began
    before it and is not made of the anomalies that are stored: they are gone, and it would begin later, as another.
    """
    touched = _touched(anomalies)
    if not touched:
        return []
    known = KnownIncidents.read(settings, touched, clock)
    since = known.reach_back(touched)
    rules = OperatorActions(settings).rules(min(since.values()))
    steps = settings.detection.steps_s
    back = look_back(rules, steps)
    reached = {key: at - back for key, at in since.items()}
    stored = stored_anomalies(settings, reached)
    begun = [row for row in known.rows if kept_since and (row["opened_at"] - back).date() < kept_since]
    if begun:
        remembered = sessions(stored, clock=clock, settings=rules, step_s=steps)
        _refuse_forgotten(begun, known.vanished(since, remembered))
    current = patched(stored, anomalies, reached)
    found = sessions(current, clock=clock, settings=rules, step_s=steps)
    fresh = [row for row in found if row["opened_at"] >= since[key_of(row)]]
    gone = known.vanished(since, fresh)
    related = relate(fresh, known.others(fresh, gone, ()), settings=rules, lead_s=steps[1])
    open_before = {row["incident_id"] for row in known.rows if row["status"] == "open"}
    after = [_still_open(row, rules) if row["incident_id"] in open_before else row for row in related]
    concerned = {*gone, *(row["incident_id"] for row in after)}
    before = [row for row in known.rows if row["incident_id"] in concerned]
    return changes_between(before, after, key="incident_id")


def patched(stored: Iterable[Anomaly], changes: Iterable[Change], since: dict[Key, datetime]) -> list[Anomaly]:
    """The stored anomalies with the changes, of the given keys from their moments on."""
    rows = {row["anomaly_id"]: row for row in stored}
    for change in changes:
        rows.pop(change.key, None)
        if change.after is not None and _counts(change.after, since):
            rows[change.key] = change.after
    return list(rows.values())


def _refuse_forgotten(begun: Iterable[Row], unmade: Collection[str]) -> None:
    for row in begun:
        if row["incident_id"] in unmade:
            raise DataRefused(
                f"incident {row['incident_id']} ({row['family']} of {row['meter_id'] or row['feeder_id']}) changes, and"
                f" lake.retention_days has removed the anomalies of {row['opened_at']}, with which it began: give a"
                f" --from later than {row['closed_at'] or row['last_anomaly_at']}"
            )


def _counts(row: Row, since: dict[Key, datetime]) -> bool:
    key = incident_key(row)
    return key is not None and key in since and bool(row["event_ts"] >= since[key])


def _touched(changes: Iterable[Change]) -> dict[Key, datetime]:
    first: dict[Key, datetime] = {}
    for row in (side for change in changes for side in (change.before, change.after) if side is not None):
        if (key := incident_key(row)) is not None:
            first[key] = min(first.get(key, row["event_ts"]), row["event_ts"])
    return first


def _still_open(row: dict[str, Any], rules: Incidents) -> dict[str, Any]:
    is_by_clock = row["closed_at"] == row["last_anomaly_at"] + off_delay(row["family"], rules)
    return row | {"status": "open", "closed_at": None} if is_by_clock else row
