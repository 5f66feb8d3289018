"""The incidents query on real Delta tables: anomalies by id, incidents by MERGE, replays change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from pipelines.jobs.incidents import IncidentsBatch
from pipelines.jobs.known_incidents import stored_anomalies
from pyspark.sql import DataFrame, Row

from pipelines.incidents.relations import Key
from pipelines.incidents.rows import Anomaly
from pipelines.jobs import incidents
from pipelines.jobs.context import Run
from pipelines.settings import Settings
from pipelines.transforms.anomalies import encode_anomalies
from tests.factories import KAFKA_SCHEMA, NOON, anomalies_frame, at, ms, utc
from tests.streaming.conftest import MakeRun, Outbox

Anomalies = list[dict[str, Any]]
TOPIC = "incidents"


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    """Collects what the job sends."""
    box = Outbox()
    monkeypatch.setattr(incidents, "send", box.send)
    return box


@pytest.fixture
def run(make_run: MakeRun, tmp_path: Path) -> Iterator[Run]:
    """An empty lake."""
    return make_run(tmp_path)


def a(t: float, kind: str = "undervoltage", severity: str = "WARNING", **more: Any) -> dict[str, Any]:
    """An anomaly at second t."""
    return {"t": t, "anomaly_type": kind, "severity": severity, **more}


def records(run: Run, anomalies: Anomalies, ticks: tuple[float, ...] = (), first_offset: int = 0) -> DataFrame:
    """A batch as the Kafka source gives it: anomaly events and window ends."""
    sent = encode_anomalies(anomalies_frame(run.spark, anomalies)).collect() if anomalies else []
    rows = [(b"k", r["value"].encode(), "anomalies", 0, first_offset + i, NOON) for i, r in enumerate(sent)]
    rows += [(None, b'{"windowEnd":%d}' % ms(t), "window-ticks", 0, i, NOON) for i, t in enumerate(ticks)]
    return run.spark.createDataFrame([(k, bytearray(v), *rest) for k, v, *rest in rows], KAFKA_SCHEMA)


def table(run: Run, name: str, order: str) -> list[Row]:
    """All rows of a table."""
    return run.table(name).orderBy(order).collect()


def brief(row: Row) -> tuple[Any, ...]:
    """(status, severity, opened, last, closed, anomalies, alerts), times in seconds after noon."""
    seconds = (
        None if row[n] is None else (row[n] - at(0)).total_seconds()
        for n in ("opened_at", "last_anomaly_at", "closed_at")
    )
    return (row["status"], row["severity"], *seconds, row["anomalies"], row["alerts"])


def test_incident_lives_through_its_batches(run: Run, outbox: Outbox) -> None:
    """
    batch   0        1            2             3             4              5
    rows    a(0)     a(100) ERR   tick 360      tick 420      a(800)         a(900)
    then    open     escalated    still open    closed (400)  a second one   extended, beside a closed one
    """
    batch = IncidentsBatch(run)
    steps: list[tuple[DataFrame, list[tuple[Any, ...]], int]] = [
        (records(run, [a(0)]), [("open", "WARNING", 0, 0, None, 1, 1)], 1),
        (records(run, [a(100, severity="ERROR")], (60, 120)), [("open", "ERROR", 0, 100, None, 2, 2)], 1),
        (records(run, [], (360,)), [("open", "ERROR", 0, 100, None, 2, 2)], 0),
        (records(run, [], (420,)), [("closed", "ERROR", 0, 100, 400, 2, 2)], 1),
        (
            records(run, [a(800)]),
            [("closed", "ERROR", 0, 100, 400, 2, 2), ("open", "WARNING", 800, 800, None, 1, 0)],
            1,
        ),
        (
            records(run, [a(900)]),
            [("closed", "ERROR", 0, 100, 400, 2, 2), ("open", "WARNING", 800, 900, None, 2, 0)],
            1,
        ),
    ]
    for number, (frame, expected, sent) in enumerate(steps):
        batch.write(frame, number)
        assert [brief(row) for row in table(run, "incidents", "opened_at")] == expected, f"after batch {number}"
        documents = outbox.take(TOPIC)
        assert len(documents) == sent, f"sent by batch {number}"
        assert all(key == document["incidentId"] for key, document in documents)


def test_incident_closes_in_the_batch_that_opens_the_next_one_of_its_key(run: Run, outbox: Outbox) -> None:
    """No tick may come after it, so waiting for the next batch could leave it open for good."""
    batch = IncidentsBatch(run)
    batch.write(records(run, [a(0)]), 0)
    batch.write(records(run, [a(800)], (420,)), 1)
    assert [brief(row) for row in table(run, "incidents", "opened_at")] == [
        ("closed", "WARNING", 0, 0, 300, 1, 1),
        ("open", "WARNING", 800, 800, None, 1, 0),  # half an hour after the last notification at the earliest
    ]


def test_replay_of_a_batch_sends_again_and_changes_nothing(run: Run, outbox: Outbox) -> None:
    """The process died after the sends, before the checkpoint knew: a new one writes the same batch."""
    frame = records(run, [a(0), a(10, "interruption", "CRITICAL"), a(0, "over_temperature", meter_id="m2")], (60,))
    IncidentsBatch(run).write(frame, 0)
    sent = sorted(outbox.take(TOPIC))
    before = table(run, "incidents", "incident_id"), table(run, "anomalies", "anomaly_id")
    assert (len(before[0]), len(before[1])) == (2, 3)
    IncidentsBatch(run).write(frame, 0)
    assert (table(run, "incidents", "incident_id"), table(run, "anomalies", "anomaly_id")) == before
    assert sorted(outbox.take(TOPIC)) == sent


def test_broker_that_is_gone_while_an_incident_closes_loses_no_record(run: Run, outbox: Outbox) -> None:
    """The MERGE closed the incident, the send failed, the batch comes again: the topic must learn of it."""
    IncidentsBatch(run).write(records(run, [a(0)]), 0)
    outbox.take(TOPIC)
    closing = records(run, [], (300,))
    outbox.fail_on = TOPIC
    with pytest.raises(ConnectionError):
        IncidentsBatch(run).write(closing, 1)
    IncidentsBatch(run).write(closing, 1)
    assert [brief(row)[0] for row in table(run, "incidents", "opened_at")] == ["closed"]
    assert [document["status"] for _, document in outbox.take(TOPIC)] == ["closed"]


@pytest.mark.parametrize("sent", [0, 1], ids=["before the MERGE", "after the MERGE"])
def test_broker_that_is_gone_while_an_incident_vanishes_loses_no_tombstone(run: Run, outbox: Outbox, sent: int) -> None:
    """Two incidents become one, a send of the batch fails, the batch comes again: topic and table hold the same."""
    IncidentsBatch(run).write(records(run, [a(0), a(560)]), 0)
    topic = dict(outbox.take(TOPIC))
    assert len(topic) == 2
    joining = records(run, [a(280)])
    outbox.fail_on, outbox.let_through = TOPIC, sent
    with pytest.raises(ConnectionError):
        IncidentsBatch(run).write(joining, 1)
    IncidentsBatch(run).write(joining, 1)
    topic |= dict(outbox.take(TOPIC))
    (left,) = table(run, "incidents", "opened_at")
    assert {key for key, document in topic.items() if document is not None} == {left["incident_id"]}
    assert topic[left["incident_id"]]["lastAnomalyAt"] == ms(560)


def test_a_silence_of_hours_is_read_from_its_newest_heartbeat_on(
    run: Run, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    batch   0                   1          1 replayed    2 by another process
    rows    heartbeats of 6 h   the next   the same      one more
    read    all                 from it    all           all
    """
    asked: list[Any] = []

    def overheard(settings: Settings, since: Mapping[Key, datetime]) -> list[Anomaly]:
        asked.extend(since.values())
        return stored_anomalies(settings, since)

    monkeypatch.setattr(incidents, "stored_anomalies", overheard)
    beats = [a(1800 * n, "meter_silent", "ERROR" if n else "WARNING", stage="window") for n in range(15)]
    batch = IncidentsBatch(run)
    batch.write(records(run, beats[:13], (21600,)), 0)
    following = records(run, beats[13:14], (23400,))
    batch.write(following, 1)
    batch.write(following, 1)
    expected = ("open", "ERROR", 0, 23400, None, 14, 2)
    assert [brief(row) for row in table(run, "incidents", "opened_at")] == [expected]
    IncidentsBatch(run).write(records(run, beats[14:], (25200,)), 2)
    assert [brief(row) for row in table(run, "incidents", "opened_at")] == [("open", "ERROR", 0, 25200, None, 15, 2)]
    assert asked == [utc(t) for t in (0, 23400, 0, 0)]


def test_anomaly_known_by_id_is_stored_once(run: Run, outbox: Outbox) -> None:
    """Twice in one batch, again in the next, and again under another offset: the first occurrence stands."""
    batch = IncidentsBatch(run)
    batch.write(records(run, [a(0), a(0)], first_offset=5), 0)
    batch.write(records(run, [a(0), a(30)], first_offset=7), 1)
    stored = table(run, "anomalies", "event_ts")
    assert [(row["event_ts"], row["kafka_offset"]) for row in stored] == [(at(0), 5), (at(30), 8)]
    assert [brief(row) for row in table(run, "incidents", "opened_at")] == [("open", "WARNING", 0, 30, None, 2, 1)]


def test_late_anomaly_merges_two_incidents_and_removes_the_second(run: Run, outbox: Outbox) -> None:
    """
    batch 0   a(0)            a(560)      two incidents
    batch 1         a(280)                one; the second id gets a null value on the compacted topic
    """
    batch = IncidentsBatch(run)
    batch.write(records(run, [a(0), a(560), a(560, "stuck_sensor")]), 0)
    second = next(
        r["incident_id"]
        for r in table(run, "incidents", "opened_at")
        if r["opened_at"] == at(560) and r["family"] == "voltage-low"
    )
    outbox.take(TOPIC)
    late = records(run, [a(280)])
    batch.write(late, 1)
    rows = {row["family"]: brief(row) for row in table(run, "incidents", "opened_at")}
    assert rows == {
        "voltage-low": ("open", "WARNING", 0, 560, None, 3, 1),
        "health": ("open", "WARNING", 560, 560, None, 1, 1),
    }  # fmt: skip
    sent = dict(outbox.take(TOPIC))
    assert sent.pop(second) is None
    assert [document["lastAnomalyAt"] for document in sent.values()] == [ms(560)]


def test_anomaly_before_the_opening_gives_the_incident_another_id(run: Run, outbox: Outbox) -> None:
    batch = IncidentsBatch(run)
    batch.write(records(run, [a(200)]), 0)
    ((old, _),) = outbox.take(TOPIC)
    batch.write(records(run, [a(0)]), 1)
    sent = dict(outbox.take(TOPIC))
    assert sent.pop(old) is None
    assert [brief(row) for row in table(run, "incidents", "opened_at")] == [("open", "WARNING", 0, 200, None, 2, 1)]
    assert list(sent) == [row["incident_id"] for row in table(run, "incidents", "opened_at")]


def test_info_and_broken_records_touch_no_incident(run: Run, outbox: Outbox) -> None:
    """INFO is archived all the same; what is no anomaly event is not."""
    frame = records(run, [a(0, "voltage_deviation", "INFO"), a(0, "voltage_spike")], (60,))
    broken = run.spark.createDataFrame([(None, bytearray(b"no json"), "anomalies", 0, 9, NOON)], KAFKA_SCHEMA)
    no_tick = run.spark.createDataFrame([(None, bytearray(b"{}"), "window-ticks", 0, 9, NOON)], KAFKA_SCHEMA)
    IncidentsBatch(run).write(frame.union(broken).union(no_tick), 0)
    assert {row["anomaly_type"] for row in table(run, "anomalies", "anomaly_id")} == {
        "voltage_deviation",
        "voltage_spike",
    }
    assert table(run, "incidents", "opened_at") == []
    assert outbox.records == []
