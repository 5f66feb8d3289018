"""What operators say on the console: read from the wire, and what it means for the incidents.

Plain Python: a batch holds few of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.contract import Field, message
from pipelines.detection_settings import MuteWindow
from pipelines.settings import Incidents

Action = dict[str, Any]

ACTION = message("operator_action")
_TEXT_OF_NOTHING = "muted on the console"


def action_problem(document: Mapping[str, Any]) -> str | None:
    """Why a document is no OperatorAction, in one line; None when it is one.

    >>> action_problem({"actionId": "a", "at": 1, "action": "praise"})
    'action = "praise": acknowledge, mute or feedback'
    """
    known = {field.name for field in ACTION.fields}
    if unknown := sorted(set(document) - known):
        return f"{unknown[0]} is no field of an action"
    for field in ACTION.fields:
        if problem := _field_problem(field, document.get(field.name)):
            return problem
    return _contradiction(document)


def parse_action(text: str | bytes | None) -> Action | None:
    """The columns of an action from its JSON document; None when it is not one (a tombstone, or nonsense)."""
    try:
        document = json.loads(text or "")
    except ValueError:
        return None
    if not isinstance(document, dict) or action_problem(document):
        return None
    return {field.column: _value(field, document.get(field.name)) for field in ACTION.fields}


def mutes_of(actions: Iterable[Mapping[str, Any]], *, after: datetime | None = None) -> tuple[MuteWindow, ...]:
    """The mutes of rows of the table operator_actions that end later than `after`.

    A later mute of the same meter or feeder shortens or takes back the one before: of every scope the last counts,
    and earlier ones until it was said.
    """
    latest: dict[tuple[str, str], Mapping[str, Any]] = {}
    windows: list[MuteWindow] = []
    mutes = (action for action in actions if action["action"] == "mute")
    for mute in sorted(mutes, key=lambda action: (action["said_at"], action["action_id"])):
        scope = mute["scope"], mute["scope_id"]
        if before := latest.get(scope):
            windows.append(_window(before, min(before["mute_until"], mute["mute_from"])))
        latest[scope] = mute
    windows += [_window(mute, mute["mute_until"]) for mute in latest.values()]
    return tuple(w for w in windows if w.start < w.end and (after is None or w.end > after))


def with_mutes(rules: Incidents, actions: Iterable[Mapping[str, Any]], *, after: datetime | None = None) -> Incidents:
    """The settings of incidents with the operators' mutes that end later than `after` beside those of the file."""
    windows = mutes_of(actions, after=after)
    return rules.muting(windows) if windows else rules


def _window(mute: Mapping[str, Any], end: datetime) -> MuteWindow:
    who = f" by {mute['operator']}" if mute["operator"] else ""
    note = f": {' '.join(mute['note'].split())}" if mute["note"] else ""
    return MuteWindow(mute["scope_id"], mute["mute_from"], end, f"{_TEXT_OF_NOTHING}{who}{note}")


def _field_problem(field: Field, value: Any) -> str | None:
    if value is None:
        return f"{field.name} is missing" if field.required else None
    shown = f"{field.name} = {json.dumps(value)[:80]}"
    if field.type == "epoch_ms":
        low, high = field.minimum or 0, field.maximum or 0
        is_time = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        return None if is_time else f"{shown}: epoch milliseconds"
    if not isinstance(value, str):
        return f"{shown}: a text"
    if field.values and value not in field.values:
        return f"{shown}: {', '.join(field.values[:-1])} or {field.values[-1]}"
    if field.max_length and len(value) > field.max_length:
        return f"{field.name} is longer than {field.max_length} characters"
    if field.pattern and not re.fullmatch(field.pattern, value):
        return f"{shown}: like {field.pattern}"
    return None


def _contradiction(document: Mapping[str, Any]) -> str | None:
    action = document["action"]
    if (action == "feedback") != (document.get("verdict") is not None):
        return "verdict belongs to feedback, and feedback needs one"
    times = [document.get(name) is not None for name in ("muteFrom", "muteUntil")]
    if times != [action == "mute"] * 2:
        return "muteFrom and muteUntil belong to mute, and mute needs both"
    return None


def _value(field: Field, value: Any) -> Any:
    if field.type != "epoch_ms" or value is None:
        return value
    return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=value)
