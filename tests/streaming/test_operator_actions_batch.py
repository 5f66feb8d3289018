"""Operators' actions through the incidents query: once into their table, and a mute works on what comes after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pipelines.jobs.incidents import IncidentsBatch
from pyspark.sql import DataFrame

from pipelines.jobs import incidents
from pipelines.jobs.context import Run
from pipelines.transforms.anomalies import encode_anomalies
from tests.factories import KAFKA_SCHEMA, NOON, anomalies_frame, at, ms
from tests.streaming.conftest import MakeRun, Outbox


@pytest.fixture
def run(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An empty lake; what is sent is collected."""
    monkeypatch.setattr(incidents, "send", Outbox().send)
    return make_run(tmp_path)


def action(name: str, **changes: Any) -> bytes:
    """An acknowledgement of meter m-001."""
    document = {
        "actionId": name, "at": ms(0), "action": "acknowledge", "incidentId": "ab12", "scope": "meter",
        "scopeId": "m-001", "operator": "Ada",
    }  # fmt: skip
    return json.dumps(document | changes).encode()


def batch(run: Run, *actions: bytes, anomalies: tuple[dict[str, Any], ...] = ()) -> DataFrame:
    """Records of the topics operator-actions and anomalies."""
    sent = encode_anomalies(anomalies_frame(run.spark, anomalies)).collect() if anomalies else []
    rows = [(b"k", bytearray(value), "operator-actions", 0, n, NOON) for n, value in enumerate(actions)]
    rows += [(b"k", bytearray(r["value"].encode()), "anomalies", 0, n, NOON) for n, r in enumerate(sent)]
    return run.spark.createDataFrame(rows, KAFKA_SCHEMA)


def stored(run: Run) -> list[tuple[Any, ...]]:
    """Id, action, time, verdict of all rows."""
    rows = run.table("operator_actions").orderBy("action_id").collect()
    return [(r["action_id"], r["action"], r["said_at"], r["verdict"]) for r in rows]


def test_an_action_is_stored_once_however_often_it_comes(run: Run) -> None:
    written = IncidentsBatch(run)
    feedback = action("b", action="feedback", verdict="false")
    written.write(batch(run, action("a"), action("a"), feedback), 0)
    once = [("a", "acknowledge", at(0), None), ("b", "feedback", at(0), "false")]
    assert stored(run) == once
    written.write(batch(run, action("a"), b"nonsense"), 1)
    assert stored(run) == once


def test_a_replay_after_a_crash_stores_nothing_twice(run: Run) -> None:
    IncidentsBatch(run).write(batch(run, action("a")), 0)
    IncidentsBatch(run).write(batch(run, action("a")), 0)
    assert len(stored(run)) == 1


def test_a_mute_is_recorded_on_what_opens_afterwards_also_by_a_driver_that_starts_later(run: Run) -> None:
    """
    second   0              100      200             5000
    mute     m-001 from 100 ............ to 4000
    anomaly  m-001 loud              m-001 muted     m-001 loud again
    """
    sick = [
        {"t": t, "meter_id": "m-001", "anomaly_type": "undervoltage", "severity": "WARNING"} for t in (0, 1900, 5000)
    ]
    mute = action("m", action="mute", muteFrom=ms(100), muteUntil=ms(4000), note="works")
    IncidentsBatch(run).write(batch(run, anomalies=(sick[0],)), 0)
    IncidentsBatch(run).write(batch(run, mute), 1)
    IncidentsBatch(run).write(batch(run, anomalies=(sick[1], sick[2])), 2)
    rows = run.table("incidents").orderBy("opened_at").collect()
    assert [row["alerts"] for row in rows] == [1, 0, 1]
    assert "muted until" in rows[1]["muted"]
    assert "by Ada: works" in rows[1]["muted"]
