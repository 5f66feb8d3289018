"""Incidents made anew of anomalies that changed, as the query incidents makes them of anomalies that came."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import Any

from pipelines.errors import DataRefused
from pipelines.incidents.actions_archive import OperatorActions
from pipelines.incidents.relations import Key
from pipelines.incidents.rows import Anomaly
from pipelines.incidents.sessions import incident_key, look_back, off_delay, sessions
from pipelines.incidents.tables import read_known, stored_anomalies
from pipelines.incidents.update import first_of_each_key, update
from pipelines.offline.recompute.changes import Change, Row, changes_between
from pipelines.settings import Incidents, Settings


def incident_changes(
    settings: Settings, anomalies: Sequence[Change], *, clock: datetime, kept_since: date | None = None
) -> list[Change]:
    """The incidents that differ once the anomalies are changed; nothing needs to be written before.

    An incident that is open in the table and over by the clock stays so: the query closes it at its next window end,
    and says so. What "back" has ended is closed, since the query does that only when the event comes.
    `kept_since`: first day whose anomalies are surely kept. Raises DataRefused when one of these incidents began
    before it and is not made of the anomalies that are stored: they are gone, and it would begin later, as another.
    """
    touched = first_of_each_key(row for change in anomalies for row in (change.before, change.after) if row is not None)
    if not touched:
        return []
    known = read_known(settings, touched)
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
    updated = update(current, clock, known=known, since=since, rules=rules, steps_s=steps)
    open_before = {row["incident_id"] for row in known.rows if row["status"] == "open"}
    after = [_still_open(row, rules) if row["incident_id"] in open_before else row for row in updated.rows]
    concerned = {*updated.gone, *(row["incident_id"] for row in after)}
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


def _still_open(row: dict[str, Any], rules: Incidents) -> dict[str, Any]:
    is_by_clock = row["closed_at"] == row["last_anomaly_at"] + off_delay(row["family"], rules)
    return row | {"status": "open", "closed_at": None} if is_by_clock else row
