"""Updates on real Delta tables: anomalies by id, incidents by MERGE, and what is done again changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.incidents import writer
from pipelines.incidents.positions import newest_update
from pipelines.incidents.relations import Key
from pipelines.incidents.rows import Anomaly
from pipelines.incidents.tables import stored_anomalies
from pipelines.settings import Settings
from tests.factories import ms, utc
from tests.unit.incidents.lake import Outbox, Row, brief, event, generation, lake_settings, stored, writer_of

TOPIC = "incidents"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty lake."""
    return lake_settings(tmp_path)


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """Collects what is sent."""
    box = Outbox()
    monkeypatch.setattr(writer, "send_records", box.send_records)
    return box


def a(t: float, kind: str = "undervoltage", severity: str = "WARNING", **more: Any) -> dict[str, Any]:
    """An anomaly at second t."""
    return event({"t": t, "anomaly_type": kind, "severity": severity, **more})


def incidents(settings: Settings) -> list[tuple[Any, ...]]:
    return [brief(row) for row in stored(settings, "incidents", "opened_at")]


def test_incident_lives_through_its_updates(settings: Settings, outbox: Outbox) -> None:
    """
    update  0        1            2             3             4              5
    rows    a(0)     a(100) ERR   clock 360     clock 420     a(800)         a(900)
    then    open     escalated    still open    closed (400)  a second one   extended, beside a closed one
    """
    writes = writer_of(settings)
    first = ("closed", "ERROR", 0, 100, 400, 2, 2)
    steps: list[tuple[list[Row], float | None, list[tuple[Any, ...]], int]] = [
        ([a(0)], None, [("open", "WARNING", 0, 0, None, 1, 1)], 1),
        ([a(100, severity="ERROR")], 120, [("open", "ERROR", 0, 100, None, 2, 2)], 1),
        ([], 360, [("open", "ERROR", 0, 100, None, 2, 2)], 0),
        ([], 420, [first], 1),
        ([a(800)], 420, [first, ("open", "WARNING", 800, 800, None, 1, 0)], 1),
        ([a(900)], 420, [first, ("open", "WARNING", 800, 900, None, 2, 0)], 1),
    ]
    for number, (events, clock, expected, sent) in enumerate(steps):
        writes.write(events, [], None if clock is None else utc(clock))
        assert incidents(settings) == expected, f"after update {number}"
        documents = outbox.take(TOPIC)
        assert len(documents) == sent, f"sent by update {number}"
        assert all(key == document["incidentId"] for key, document in documents)


def test_incident_closes_in_the_update_that_opens_the_next_one_of_its_key(settings: Settings, outbox: Outbox) -> None:
    """No tick may come after it, so waiting for the next update could leave it open for good."""
    writes = writer_of(settings)
    writes.write([a(0)], [], None)
    writes.write([a(800)], [], utc(420))
    assert incidents(settings) == [
        ("closed", "WARNING", 0, 0, 300, 1, 1),
        ("open", "WARNING", 800, 800, None, 1, 0),  # half an hour after the last notification at the earliest
    ]


def test_what_is_done_again_by_another_life_sends_again_and_changes_nothing(settings: Settings, outbox: Outbox) -> None:
    """The process died after the sends, before the position was committed."""
    events = [a(0), a(10, "interruption", "CRITICAL"), a(0, "over_temperature", meter_id="m2")]
    writer_of(settings).write(events, [], utc(60))
    sent = sorted(outbox.take(TOPIC))
    before = stored(settings, "incidents", "incident_id"), stored(settings, "anomalies", "anomaly_id")
    assert (len(before[0]), len(before[1])) == (2, 3)
    writer_of(settings).write(events, [], utc(60))
    assert (stored(settings, "incidents", "incident_id"), stored(settings, "anomalies", "anomaly_id")) == before
    assert sorted(outbox.take(TOPIC)) == sent


def test_broker_that_is_gone_while_an_incident_closes_loses_no_record(settings: Settings, outbox: Outbox) -> None:
    """The MERGE closed the incident and the send failed; the next life finds that and sends what is known."""
    writes = writer_of(settings)
    writes.write([a(0)], [], None)
    outbox.take(TOPIC)
    outbox.fail_on = TOPIC
    with pytest.raises(ConnectionError):
        writes.write([], [], utc(300))
    assert newest_update(settings, generation) == (1, 1)
    assert writer_of(settings, clock=0).send_known() == 1
    assert [document["status"] for _, document in outbox.take(TOPIC)] == ["closed"]


@pytest.mark.parametrize("sent", [0, 1], ids=["before the MERGE", "after the MERGE"])
def test_broker_that_is_gone_while_an_incident_vanishes_loses_no_tombstone(
    settings: Settings, outbox: Outbox, sent: int
) -> None:
    """Two incidents become one, a send of the update fails, the update comes again: topic and table hold the same."""
    writes = writer_of(settings)
    writes.write([a(0), a(560)], [], None)
    topic = dict(outbox.take(TOPIC))
    assert len(topic) == 2
    outbox.fail_on, outbox.let_through = TOPIC, sent
    with pytest.raises(ConnectionError):
        writes.write([a(280)], [], None)
    writer_of(settings).write([a(280)], [], None)
    topic |= dict(outbox.take(TOPIC))
    (left,) = stored(settings, "incidents", "opened_at")
    assert {key for key, document in topic.items() if document is not None} == {left["incident_id"]}
    assert topic[left["incident_id"]]["lastAnomalyAt"] == ms(560)


def test_an_open_incident_is_not_read_again(
    settings: Settings, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    update  0                   1          1 again      2 by another process
    rows    heartbeats of 6 h   the next   the same     one more
    read    all                 nothing    all          all
    """
    asked: list[Any] = []

    def overheard(settings: Settings, since: Mapping[Key, datetime]) -> list[Anomaly]:
        asked.append(sorted(since.values()))
        return stored_anomalies(settings, since)

    monkeypatch.setattr(writer, "stored_anomalies", overheard)
    beats = [a(1800 * n, "meter_silent", "ERROR" if n else "WARNING", stage="window") for n in range(15)]
    writes = writer_of(settings)
    writes.write(beats[:13], [], utc(21600))
    writes.write(beats[13:14], [], utc(23400))
    writes.write(beats[13:14], [], utc(23400))
    assert incidents(settings) == [("open", "ERROR", 0, 23400, None, 14, 2)]
    writer_of(settings, clock=23400).write(beats[14:], [], utc(25200))
    assert incidents(settings) == [("open", "ERROR", 0, 25200, None, 15, 2)]
    assert asked == [[utc(0)], [], [utc(0)], [utc(0)]]


def test_anomaly_known_by_id_is_stored_once(settings: Settings, outbox: Outbox) -> None:
    """Twice in one update, again in the next, and again under another offset: the first occurrence stands."""
    writes = writer_of(settings)
    writes.write([a(0, offset=6), a(0, offset=5)], [], None)
    writes.write([a(0, offset=7), a(30, offset=8)], [], None)
    found = stored(settings, "anomalies", "event_ts")
    assert [(row["event_ts"], row["kafka_offset"]) for row in found] == [(utc(0), 5), (utc(30), 8)]
    assert incidents(settings) == [("open", "WARNING", 0, 30, None, 2, 1)]


def test_late_anomaly_merges_two_incidents_and_removes_the_second(settings: Settings, outbox: Outbox) -> None:
    """
    update 0   a(0)            a(560)      two incidents
    update 1         a(280)                one; the second id gets a null value on the compacted topic
    """
    writes = writer_of(settings)
    writes.write([a(0), a(560), a(560, "stuck_sensor")], [], None)
    second = next(
        r["incident_id"]
        for r in stored(settings, "incidents", "opened_at")
        if r["opened_at"] == utc(560) and r["family"] == "voltage-low"
    )
    outbox.take(TOPIC)
    writes.write([a(280)], [], None)
    rows = {row["family"]: brief(row) for row in stored(settings, "incidents", "opened_at")}
    assert rows == {
        "voltage-low": ("open", "WARNING", 0, 560, None, 3, 1),
        "health": ("open", "WARNING", 560, 560, None, 1, 1),
    }  # fmt: skip
    sent = dict(outbox.take(TOPIC))
    assert sent.pop(second) is None
    assert [document["lastAnomalyAt"] for document in sent.values()] == [ms(560)]


def test_anomaly_before_the_opening_gives_the_incident_another_id(settings: Settings, outbox: Outbox) -> None:
    writes = writer_of(settings)
    writes.write([a(200)], [], None)
    ((old, _),) = outbox.take(TOPIC)
    writes.write([a(0)], [], None)
    sent = dict(outbox.take(TOPIC))
    assert sent.pop(old) is None
    assert incidents(settings) == [("open", "WARNING", 0, 200, None, 2, 1)]
    assert list(sent) == [row["incident_id"] for row in stored(settings, "incidents", "opened_at")]


def test_a_late_anomaly_goes_on_with_an_incident_that_memory_has_let_go(
    settings: Settings, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.incidents.tables._MOST_ROWS", 0)
    writes = writer_of(settings)
    writes.write([a(0)], [], None)
    writes.write([], [], utc(400))
    writes.write([a(100_000, meter_id="m2")], [], utc(100_000))
    assert len(list(writes.known.rows())) == 1
    writes.write([a(200)], [], utc(100_000))
    assert incidents(settings)[0] == ("closed", "WARNING", 0, 200, 500, 2, 1)


def test_info_touches_no_incident_and_is_archived_all_the_same(settings: Settings, outbox: Outbox) -> None:
    writer_of(settings).write([a(0, "voltage_deviation", "INFO"), a(0, "voltage_spike")], [], utc(60))
    assert {row["anomaly_type"] for row in stored(settings, "anomalies", "anomaly_id")} == {
        "voltage_deviation",
        "voltage_spike",
    }
    assert incidents(settings) == []
    assert outbox.records == []
