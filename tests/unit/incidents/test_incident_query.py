"""The query over topics that lie in lists: wherever it dies, the next life ends with the same tables and topic."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipelines.anomalies.events import anomaly_record
from pipelines.incidents import query, writer
from pipelines.incidents.positions import Position, read_position
from pipelines.incidents.query import Gathered, IncidentsQuery
from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Settings
from tests.factories import NOON_MS, anomaly_row, ms, utc
from tests.unit.incidents.lake import Outbox, brief, generation, lake_settings, stored

PARTITIONS = {"anomalies": 2, "window-ticks": 1, "operator-actions": 1}


class Died(BaseException):
    """The process was killed here."""


@dataclass
class Message:
    """As confluent-kafka has one."""

    place: tuple[str, int, int]
    body: bytes

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.place[2]

    def value(self) -> bytes:
        return self.body

    def timestamp(self) -> tuple[int, int]:
        return 1, NOON_MS


@dataclass
class Log:
    """Topics in memory, in the order in which they were written."""

    messages: list[Message] = field(default_factory=list)

    def send(self, topic: str, body: bytes, partition: int = 0) -> None:
        self.messages.append(Message((topic, partition, self.end(topic, partition)), body))

    def anomaly(self, t: float, kind: str = "undervoltage", severity: str = "WARNING", **more: Any) -> None:
        row = anomaly_row({"t": t, "anomaly_type": kind, "severity": severity, **more})
        wire = {
            "anomalyId": row["anomaly_id"], "anomalyType": kind, "severity": severity, "stage": row["stage"],
            "meterId": row["meter_id"], "feederId": row["feeder_id"], "eventTime": ms(t), "message": row["message"],
            "score": row["score"], "observed": row["observed"],
        }  # fmt: skip
        self.send("anomalies", anomaly_record(wire, detected_ms=NOON_MS)[1], int((row["meter_id"] or "0")[-1]) % 2)

    def tick(self, t: float) -> None:
        self.send("window-ticks", json.dumps({"windowEnd": ms(t)}).encode())

    def end(self, topic: str, partition: int) -> int:
        return sum(message.place[:2] == (topic, partition) for message in self.messages)

    def ends(self) -> dict[int, int]:
        return {partition: self.end("anomalies", partition) for partition in range(2)}


class ListReader:
    """Reads a log in pieces of random length, each partition in its order; says when there is no more."""

    def __init__(self, log: Log, rng: random.Random, end: Callable[[], None]) -> None:
        self._log, self._rng, self._end = log, rng, end
        self.read_to: dict[str, dict[int, int]] = {topic: {} for topic in PARTITIONS}

    def partitions(self) -> dict[str, list[int]]:
        return {topic: list(range(count)) for topic, count in PARTITIONS.items()}

    def begin(self, offsets: Any) -> None:
        for topic, partitions in self.partitions().items():
            self.read_to[topic] = {p: offsets.get(topic, {}).get(p, 0) for p in partitions}

    def read(self, most: int, wait_s: float) -> list[Message]:
        """From one or two topics at a time: a tick may come before anomalies that were sent earlier."""
        topics = self._rng.sample(list(PARTITIONS), self._rng.choice((1, 3)))
        left = [m for m in self._log.messages if m.offset() >= self.read_to[m.topic()][m.partition()]]
        if not left:
            self._end()
        found = [m for m in left if m.topic() in topics][: self._rng.randrange(1, 6)]
        for message in found:
            self.read_to[message.topic()][message.partition()] = message.offset() + 1
        return found

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class World:
    """A lake, a log, and what came out."""

    settings: Settings
    log: Log
    box: Outbox
    steps: int = 0
    """Writes since the beginning of a life."""
    die_at: int | None = None

    def life(self, rng: random.Random) -> None:
        """One life to its end in order, or until it dies."""
        self.steps = 0
        lives = IncidentsQuery(
            self.settings, generation, PipelineMetrics(), lambda line: None, Position(), dict, lambda *tables: None
        )  # fmt: skip
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(query, "TopicsReader", lambda *_: ListReader(self.log, rng, lives.ending.set))
            patch.setattr(query, "committed_ends", lambda *_: self.log.ends())
            patch.setattr(query, "_PATIENCE_S", 0.0)
            patch.setattr(query, "_BETWEEN_S", 0.0)
            patch.setattr(query, "_GATHER_S", 0.0)
            patch.setattr(query, "_NOTE_EVERY_S", 0.0 if rng.random() < 0.5 else 60.0)
            patch.setattr(writer, "send_records", self.mortal(self.box.send_records))
            for module, name in (
                (writer, "append_rows_once"), (writer, "merge_rows"), (query, "commit_position"),
            ):  # fmt: skip
                patch.setattr(module, name, self.mortal(getattr(module, name)))
            lives.run()

    def mortal(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, before or after which the process may die."""

        def called(*args: Any, **more: Any) -> Any:
            self._step()
            done = call(*args, **more)
            self._step()
            return done

        return called

    def _step(self) -> None:
        self.steps += 1
        if self.steps == self.die_at:
            raise Died

    def outcome(self) -> tuple[list[Any], list[str], dict[str, Any]]:
        """Incidents and ids of anomalies in the tables, and what a reader of the compacted topic has."""
        topic = {key: value for name, key, value in self.box.records if name == "incidents"}
        rows = sorted(
            (row["incident_id"], row["parent_id"], brief(row))
            for row in stored(self.settings, "incidents", "incident_id")
        )
        ids = [row["anomaly_id"] for row in stored(self.settings, "anomalies", "anomaly_id")]
        return rows, ids, {key: value for key, value in topic.items() if value is not None}


def a_story() -> Log:
    """Incidents that open, escalate, close, become one by a late anomaly, get a parent, end by "back"."""
    log = Log()
    log.anomaly(0)
    log.anomaly(0, meter_id="m2")
    log.anomaly(0, "meter_silent", "WARNING", meter_id="m3", stage="window")
    log.anomaly(100, severity="ERROR")
    log.tick(120)
    log.anomaly(560, meter_id="m2")
    log.tick(420)
    log.anomaly(280, meter_id="m2")
    log.anomaly(30, "feeder_outage", "CRITICAL", meter_id=None, feeder_id="f1", stage="feeder")
    log.anomaly(700, "meter_silent", "INFO", meter_id="m3", stage="window")
    log.send("operator-actions", b"nonsense")
    log.anomaly(100, severity="ERROR")
    log.tick(780)
    log.send("anomalies", b"nonsense")
    log.anomaly(900)
    log.tick(1500)
    return log


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Any:
    world = World(lake_settings(tmp_path_factory.mktemp("whole")), a_story(), Outbox())
    world.life(random.Random(0))
    return world.outcome()


def test_a_life_ends_with_every_incident_closed_and_on_the_topic(expected: Any) -> None:
    rows, ids, topic = expected
    assert len(ids) == 9
    assert {brief[0] for _, _, brief in rows} == {"closed"}
    assert {row[0] for row in rows} == topic.keys()
    assert [row[1] is not None for row in rows].count(True) >= 1


@pytest.mark.parametrize("seed", range(6))
def test_a_crash_on_any_line_loses_nothing_and_leaves_no_ghost(tmp_path: Path, expected: Any, seed: int) -> None:
    """Lives that die at a random write, before it or after it, until one comes to its end."""
    rng = random.Random(seed)
    world = World(lake_settings(tmp_path), a_story(), Outbox())
    lives = 0
    for world.die_at in (*(rng.randrange(1, 12) for _ in range(6)), None):
        try:
            world.life(rng)
        except Died:
            lives += 1
    assert lives > 2
    assert world.outcome() == expected


def test_after_an_end_in_order_the_next_life_reads_and_sends_nothing_again(tmp_path: Path) -> None:
    world = World(lake_settings(tmp_path), a_story(), Outbox())
    world.life(random.Random(1))
    position = read_position(world.settings, generation, {t: range(n) for t, n in PARTITIONS.items()})
    assert position.offsets == {
        topic: {p: world.log.end(topic, p) for p in range(count)} for topic, count in PARTITIONS.items()
    }
    assert position.clock == utc(1500)
    world.box.records.clear()
    world.life(random.Random(2))
    assert world.box.records == []


def waits() -> Iterator[Any]:
    yield Gathered(events=[{}], since=0.0), 0.0, 9.9, False
    yield Gathered(events=[{}], since=0.0), 0.0, 10.1, True
    yield Gathered(events=[{}], since=5.0, news_since=5.0), 0.0, 5.2, True
    yield Gathered(events=[{}], since=5.0, news_since=5.0), 4.9, 5.2, False
    yield Gathered(events=[{}], since=5.0, news_since=5.0), 4.9, 6.0, True
    yield Gathered(events=[{}] * 5000, since=5.0), 4.9, 5.0, True
    yield Gathered(), 0.0, 100.0, False


@pytest.mark.parametrize(("gathered", "last_began", "now", "due"), list(waits()))
def test_news_is_stored_at_once_and_the_rest_is_gathered(
    gathered: Gathered, last_began: float, now: float, due: bool
) -> None:
    assert gathered.is_due(now=now, last_began=last_began) is due
    if not due and gathered:
        later = now + gathered.left_s(now=now, last_began=last_began)
        assert later > now
