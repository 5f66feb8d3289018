"""The board knows what an open page must show: incidents come, change and go; the data's clock never runs back."""

from __future__ import annotations

import json
from typing import Any

from pipelines.console.board import Board, Record


def incident(name: str, **changes: Any) -> Record:
    """A record of the topic incidents."""
    document = {
        "incidentId": name, "scope": "meter", "meterId": "m-1", "feederId": "f-1", "status": "open",
        "severity": "WARNING", "openedAt": 1000, "lastAnomalyAt": 2000, "closedAt": None, "parentId": None,
    }  # fmt: skip
    return Record("incidents", name, json.dumps(document | changes).encode(), 5000)


def anomaly(name: str, at_ms: int = 5000, **changes: Any) -> Record:
    """A record of the topic anomalies, 40 ms after its reading."""
    document = {
        "anomalyId": name, "anomalyType": "undervoltage", "stage": "reading", "eventTime": 3000,
        "source": {"timestamp": at_ms - 40}, "originalEvent": {"voltage": 1},
    }  # fmt: skip
    return Record("anomalies", "m-1", json.dumps(document | changes).encode(), at_ms)


def action(name: str, **changes: Any) -> Record:
    """A record of the topic operator-actions."""
    document = {
        "actionId": "a-1", "at": 7000, "action": "acknowledge", "incidentId": name, "scope": "meter", "scopeId": "m-1",
    }  # fmt: skip
    return Record("actions", name, json.dumps(document | changes).encode(), 7000)


def test_an_incident_is_new_changed_and_gone() -> None:
    board = Board()
    assert [i["incidentId"] for i in board.apply([incident("a")])["incidents"]["changed"]] == ["a"]
    assert board.apply([incident("a", severity="ERROR")])["incidents"]["changed"][0]["severity"] == "ERROR"
    assert board.apply([Record("incidents", "a", None, 1)])["incidents"] == {"changed": [], "gone": ["a"]}
    assert board.incidents == {}


def test_the_last_word_of_one_batch_counts() -> None:
    board = Board()
    message = board.apply([incident("a"), incident("a", severity="CRITICAL"), Record("incidents", "b", None, 1)])
    assert [i["severity"] for i in message["incidents"]["changed"]] == ["CRITICAL"]
    assert "gone" in message["incidents"]
    assert message["incidents"]["gone"] == []


def test_of_closed_incidents_only_the_latest_are_kept_and_pages_hear_of_it() -> None:
    board = Board(history=10)
    gone: list[str] = []
    for number in range(40):
        message = board.apply([incident(f"i{number}", status="closed", closedAt=number)])
        gone += message["incidents"]["gone"]
    assert {"i39", "i38"} <= set(board.incidents)
    assert 10 <= len(board.incidents) <= 12
    assert set(gone) == {f"i{n}" for n in range(40)} - set(board.incidents)


def test_open_incidents_are_never_let_go() -> None:
    board = Board(history=10)
    board.apply([incident(f"o{number}") for number in range(100)])
    assert len(board.incidents) == 100


def test_a_finding_carries_how_long_after_its_reading_it_came() -> None:
    board = Board()
    (found,) = board.apply([anomaly("x")])["anomalies"]
    assert (found["after"], found["family"], found["at"]) == (40, "voltage-low", 5000)
    assert "originalEvent" not in found
    assert board.latency_ms(6000) == {"n": 1, "p50": 40, "p99": 40}
    assert board.latency_ms(5000 + 60_001) == {"n": 0, "p50": None, "p99": None}


def test_window_anomalies_have_no_such_delay() -> None:
    board = Board()
    (found,) = board.apply([anomaly("x", stage="window")])["anomalies"]
    assert "after" not in found
    assert board.latency_ms(6000)["n"] == 0


def test_the_clock_is_the_largest_event_time_heard_of() -> None:
    board = Board()
    assert board.clock_ms is None
    board.apply([Record("ticks", None, b'{"windowEnd": 9000}', 1), Record("ticks", None, b'{"windowEnd": 8000}', 2)])
    board.apply([anomaly("x", eventTime=500)])
    assert (board.clock_ms, board.window_end, board.window_at) == (9000, 9000, 1)


def test_actions_are_kept_by_kind_and_a_page_opened_later_has_them() -> None:
    board = Board()
    feedback = action("a", action="feedback", verdict="false", actionId="a-2")
    mute = action("a", action="mute", muteFrom=1, muteUntil=2, actionId="a-3")
    message = board.apply([incident("a"), action("a"), feedback, mute])
    assert [said["action"] for said in message["actions"]] == ["acknowledge", "feedback", "mute"]
    snapshot = board.snapshot()
    assert len(snapshot["actions"]) == 3
    assert [said["muteUntil"] for said in snapshot["mutes"]] == [2]


def test_what_is_no_record_of_ours_changes_nothing() -> None:
    board = Board()
    nonsense = [
        Record("anomalies", None, b"{", 1),
        Record("anomalies", None, b"[]", 1),
        Record("actions", None, b'{"action": "praise"}', 1),
        Record("ticks", None, None, 1),
    ]
    assert board.apply(nonsense) == {}
