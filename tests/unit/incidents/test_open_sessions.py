"""Incidents that are remembered from batch to batch are those that all of their anomalies would give."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.incidents import open_sessions
from pipelines.incidents.open_sessions import OpenSessions
from pipelines.incidents.relations import Key, key_of
from pipelines.incidents.rows import Session
from pipelines.incidents.sessions import cut, incident_key, look_back
from pipelines.incidents.update import KnownIncidents, first_of_each_key
from pipelines.settings import Incidents
from tests.factories import anomaly_row, utc

STEPS = (10.0, 60.0)
KINDS = (
    ("meter_silent", "window"), ("meter_silent", "window"), ("undervoltage", "reading"), ("undervoltage", "window"),
    ("interruption", "reading"), ("implausible_value", "reading"), ("stuck_sensor", "window"),
    ("voltage_spike", "reading"), ("feeder_outage", "feeder"), ("feeder_outage", "feeder"),
    ("feeder_undervoltage", "feeder"),
)  # fmt: skip
Rows = list[dict[str, Any]]


@dataclass
class Model:
    """The query incidents over lists: each batch's sessions as they are remembered, and of all stored anomalies."""

    rules: Incidents
    stored: dict[str, dict[str, Any]] = field(default_factory=dict)
    incidents: Rows = field(default_factory=list)
    long: OpenSessions = field(default_factory=OpenSessions)
    clock: datetime | None = None
    went_on: int = 0
    """Sessions that were not read again."""

    def batch(self, anomalies: Rows, clock: datetime) -> tuple[Rows, Rows]:
        """Rows of the touched keys: of what is remembered and the anomalies since, and of all anomalies."""
        self.stored |= {row["anomaly_id"]: row for row in anomalies}
        self.clock = clock
        touched = first_of_each_key(anomalies)
        known = KnownIncidents(self.incidents, self.rules)
        since = known.reach_back(touched)
        back = look_back(self.rules, STEPS)
        reached = {key: at - back for key, at in since.items()}
        begun = self.long.continued(touched, since)
        self.went_on += len(begun)
        found = self.cut(reached | {key: touched[key] for key in begun}, begun)
        expected = self.cut(reached, {})
        fresh = [session.row for session in expected if session.row["opened_at"] >= since[key_of(session.row)]]
        gone, closed = known.vanished(since, fresh), known.closed_by(clock, since)
        self.incidents = [*known.others(fresh, gone, closed), *fresh]
        self.long.remember(found, {row["incident_id"] for row in self.incidents if row["status"] == "open"})
        return [s.row for s in found if s.row["opened_at"] >= since[key_of(s.row)]], fresh

    def cut(self, since: Mapping[Key, datetime], begun: Mapping[Key, Session]) -> list[Session]:
        rows = [
            row
            for row in self.stored.values()
            if (key := incident_key(row)) is not None and key in since and row["event_ts"] >= since[key]
        ]
        return cut(rows, begun, clock=self.clock, settings=self.rules, step_s=STEPS)


def an_anomaly(rng: random.Random, t: float) -> dict[str, Any]:
    """Any severity of any rule, but for outages: these are CRITICAL and open at once, or last."""
    kind, stage = rng.choice(KINDS)
    severities = ("INFO", "CRITICAL") if kind == "feeder_outage" else ("INFO", "WARNING", "ERROR", "CRITICAL")
    of_feeder = stage == "feeder"
    return anomaly_row({
        "t": t, "anomaly_type": kind, "stage": stage, "severity": rng.choice(severities),
        "anomaly_id": f"{kind}|{t}|{rng.random()}", "meter_id": None if of_feeder else f"m{rng.randrange(2)}",
        "feeder_id": "f1" if of_feeder else rng.choice(("f1", "f2")), "observed": float(rng.randrange(400)),
        "score": rng.choice((None, 1.0, 2.0)), "message": f"at {t}",
    })  # fmt: skip


def batches(rng: random.Random) -> Iterator[tuple[Rows, float]]:
    """Some anomalies each and the clock; now and then late ones, a replay of the batch before, or a long pause."""
    t, last = 0.0, list[dict[str, Any]]()
    for _ in range(60):
        t += rng.choice((10, 60, 60, 150, 400, 3000))
        times = [t + rng.randrange(0, 100, 10) - (rng.randrange(600) if rng.random() < 0.1 else 0) for _ in range(6)]
        last = [an_anomaly(rng, at) for at in times] + (last if rng.random() < 0.1 else [])
        yield last, t


@settings(max_examples=60, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
@given(seed=st.integers(0, 2**32 - 1))
def test_going_on_with_a_session_gives_what_all_of_its_anomalies_give(seed: int) -> None:
    rng = random.Random(seed)
    model = Model(Incidents(warning_k=rng.choice((1, 2)), warning_n=3))
    for anomalies, clock in batches(rng):
        found, expected = model.batch(anomalies, utc(clock))
        assert found == expected
    assert model.went_on > 20


def silence(t: float, severity: str = "ERROR") -> dict[str, Any]:
    return anomaly_row({"t": t, "anomaly_type": "meter_silent", "severity": severity, "stage": "window"})


def test_a_silence_that_lasts_is_read_from_its_newest_heartbeat_on() -> None:
    """
    t        0        1800      3600      5400       3700 late       7200 back
    read     all      the new one each               all             all: the late one changed the past
    """
    model, went_on = Model(Incidents()), []
    for t, severity in ((0, "WARNING"), (1800, "ERROR"), (3600, "ERROR"), (5400, "ERROR"), (3700, "ERROR")):
        found, expected = model.batch([silence(t, severity)], utc(t))
        assert found == expected
        went_on.append(model.went_on)
    assert went_on == [0, 1, 2, 3, 3]
    assert [(row["anomalies"], row["status"]) for row in found] == [(5, "open")]
    (closed,), expected = model.batch([silence(7200, "INFO")], utc(7200))
    assert [closed] == expected
    assert closed["closed_at"] == utc(7200)
    assert model.long.continued({key_of(closed): utc(7300)}, {key_of(closed): closed["opened_at"]}) == {}


def test_what_is_over_and_what_is_too_much_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_sessions, "_MOST", 1)
    model = Model(Incidents())
    model.batch([silence(0), silence(1800), anomaly_row({"t": 1700, "anomaly_type": "undervoltage"})], utc(1800))
    silent, low = ("meter", "m1", "silence"), ("meter", "m1", "voltage-low")
    since = {silent: utc(0), low: utc(1700)}
    assert model.long.continued({silent: utc(1801), low: utc(1801)}, since).keys() == {silent}
    model.batch([], utc(1800 + 2100))
    assert model.long.continued({silent: utc(1801)}, since) == {}
