"""An operator's action is checked field by field, and a mute works until it ends or another one replaces it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from pipelines.incidents.operator_actions import action_problem, mutes_of, parse_action, with_mutes
from pipelines.settings import Incidents
from tests.factories import ms, utc


def action(**changes: Any) -> dict[str, Any]:
    """An acknowledgement as it stands on the wire."""
    document = {
        "actionId": "a1", "at": ms(0), "action": "acknowledge", "incidentId": "ab12", "scope": "meter",
        "scopeId": "m-001",
    } | changes  # fmt: skip
    return {name: value for name, value in document.items() if value is not ...}


def mute(start: float, end: float, *, at: float | None = None, **changes: Any) -> dict[str, Any]:
    """A row of the table: a mute from second `start` to `end` after noon, said at `at`."""
    said = start if at is None else at
    document = action(action="mute", muteFrom=ms(start), muteUntil=ms(end), at=ms(said), actionId=f"m{said:g}")
    row = parse_action(json.dumps(document | changes))
    assert row is not None
    return row


def spans(*rows: dict[str, Any]) -> list[tuple[str, float, float]]:
    """Who is muted from when to when, in seconds after noon."""
    windows = with_mutes(Incidents(), rows).mute_windows
    found = [(w.who, (w.start - utc(0)).total_seconds(), (w.end - utc(0)).total_seconds()) for w in windows]
    return sorted(found)


def test_whole_actions_are_taken() -> None:
    assert action_problem(action()) is None
    assert action_problem(action(operator="Ada", note="a tree on the line")) is None
    assert action_problem(action(action="feedback", verdict="expected")) is None
    assert action_problem(action(action="mute", muteFrom=ms(0), muteUntil=ms(60))) is None


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"actionId": ...}, "actionId is missing"),
        ({"actionId": "a b"}, "actionId"),
        ({"action": "praise"}, "acknowledge, mute or feedback"),
        ({"action": "feedback"}, "verdict"),
        ({"verdict": "false"}, "verdict"),
        ({"action": "feedback", "verdict": "maybe"}, "confirmed, false or expected"),
        ({"action": "mute"}, "muteFrom"),
        ({"muteUntil": ms(1), "muteFrom": ms(0)}, "muteFrom"),
        ({"action": "mute", "muteFrom": ms(0)}, "muteFrom"),
        ({"at": "now"}, "epoch milliseconds"),
        ({"at": True}, "epoch milliseconds"),
        ({"at": -1}, "epoch milliseconds"),
        ({"note": "x" * 501}, "longer than 500"),
        ({"scope": "town"}, "meter or feeder"),
        ({"scopeId": ""}, "scopeId"),
        ({"scopeId": "*"}, "scopeId"),
        ({"scopeId": "a\nb"}, "scopeId"),
        ({"scopeId": "a\n"}, "scopeId"),
        ({"scopeId": "a\x85b"}, "scopeId"),
        ({"scopeId": "a\u2028b"}, "scopeId"),
        ({"scopeId": "x" * 201}, "longer than 200"),
        ({"colour": "red"}, "colour is no field"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    problem = action_problem(action(**changes))
    assert problem is not None
    assert said in problem
    assert parse_action(json.dumps(action(**changes))) is None


@pytest.mark.parametrize("text", [None, b"", "{", "[]", "null", b"\xff"])
def test_a_record_that_is_no_document_is_no_action(text: str | bytes | None) -> None:
    assert parse_action(text) is None


def test_an_action_becomes_the_columns_of_its_table() -> None:
    row = parse_action(json.dumps(action(note="x")))
    assert row is not None
    assert (row["action_id"], row["said_at"], row["scope_id"], row["note"]) == ("a1", utc(0), "m-001", "x")
    assert row["verdict"] is None


def test_a_mute_holds_from_its_begin_to_its_end() -> None:
    assert spans(mute(0, 3600)) == [("m-001", 0, 3600)]


def test_a_later_mute_of_the_same_meter_replaces_the_rest_of_the_one_before() -> None:
    assert spans(mute(0, 3600), mute(600, 1200)) == [("m-001", 0, 600), ("m-001", 600, 1200)]


def test_a_mute_that_ends_where_it_begins_takes_the_one_before_back() -> None:
    assert spans(mute(0, 3600), mute(600, 600)) == [("m-001", 0, 600)]


def test_meters_and_feeders_are_muted_apart() -> None:
    rows = mute(0, 60), mute(10, 20, scopeId="f-01", scope="feeder")
    assert spans(*rows) == [("f-01", 10, 20), ("m-001", 0, 60)]


@pytest.mark.parametrize("name", ["feeder 1", "Nord Süd", " f", "-7", "a/b|c", "<b>", "* *", "2026-03-02T10:00/11:00"])
def test_a_feeder_is_muted_whatever_its_name(name: str) -> None:
    assert spans(mute(0, 60, scope="feeder", scopeId=name)) == [(name, 0, 60)]


def test_order_and_other_actions_change_nothing() -> None:
    first, second = mute(0, 3600), mute(600, 1200)
    seen = parse_action(json.dumps(action()))
    assert seen is not None
    assert mutes_of([second, seen, first]) == mutes_of([first, second])


def test_mutes_that_ended_before_what_matters_are_left_out() -> None:
    rows = [mute(0, 60), mute(100, 200, scopeId="m-002")]
    assert [window.who for window in mutes_of(rows, after=utc(60))] == ["m-002"]
    assert len(mutes_of(rows, after=utc(59))) == 2


def test_the_reason_names_who_said_it_and_why() -> None:
    (window,) = with_mutes(Incidents(), [mute(0, 60, operator="Ada", note="a\n tree")]).mute_windows
    assert window.reason == "muted on the console by Ada: a tree"
    assert window.end - window.start == timedelta(seconds=60)


def test_mutes_of_the_settings_stay() -> None:
    kept = Incidents(mute=("* 2026-03-02T10:00/2026-03-02T12:00 planned",))
    assert [window.who for window in with_mutes(kept, [mute(0, 60)]).mute_windows] == ["*", "m-001"]
    assert with_mutes(kept, []) is kept
    assert len(kept.mute_windows) == 1
