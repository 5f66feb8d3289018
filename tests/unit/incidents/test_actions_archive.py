"""Operators' actions through the incidents: once into their table, and a mute works on what comes after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.incidents import writer
from pipelines.incidents.actions_archive import Said
from pipelines.settings import Settings
from tests.factories import ms, utc
from tests.unit.incidents.lake import Outbox, event, lake_settings, stored, writer_of


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """An empty lake; what is sent is collected."""
    monkeypatch.setattr(writer, "send_records", Outbox().send_records)
    return lake_settings(tmp_path)


def action(name: str, **changes: Any) -> Said:
    """An acknowledgement of meter m-001."""
    document = {
        "actionId": name, "at": ms(0), "action": "acknowledge", "incidentId": "ab12", "scope": "meter",
        "scopeId": "m-001", "operator": "Ada",
    }  # fmt: skip
    return Said(json.dumps(document | changes).encode(), 0, utc(0))


def actions(settings: Settings) -> list[tuple[Any, ...]]:
    """Id, action, time, verdict of all rows."""
    rows = stored(settings, "operator_actions", "action_id")
    return [(r["action_id"], r["action"], r["said_at"], r["verdict"]) for r in rows]


def test_an_action_is_stored_once_however_often_it_comes(settings: Settings) -> None:
    writes = writer_of(settings)
    writes.write([], [action("a"), action("a"), action("b", action="feedback", verdict="false")], None)
    once = [("a", "acknowledge", utc(0), None), ("b", "feedback", utc(0), "false")]
    assert actions(settings) == once
    writes.write([], [action("a"), Said(b"nonsense", 1, utc(0))], None)
    writer_of(settings).write([], [action("a")], None)
    assert actions(settings) == once


def test_a_mute_is_recorded_on_what_opens_afterwards_also_by_a_driver_that_starts_later(settings: Settings) -> None:
    """
    second   0              100      200             5000
    mute     m-001 from 100 ............ to 4000
    anomaly  m-001 loud              m-001 muted     m-001 loud again
    """
    sick = [
        event({"t": t, "meter_id": "m-001", "anomaly_type": "undervoltage", "severity": "WARNING"})
        for t in (0, 1900, 5000)
    ]
    mute = action("m", action="mute", muteFrom=ms(100), muteUntil=ms(4000), note="works")
    writer_of(settings).write(sick[:1], [], None)
    writer_of(settings).write([], [mute], None)
    writer_of(settings).write(sick[1:], [], None)
    rows = stored(settings, "incidents", "opened_at")
    assert [row["alerts"] for row in rows] == [1, 0, 1]
    assert "muted until" in rows[1]["muted"]
    assert "by Ada: works" in rows[1]["muted"]
