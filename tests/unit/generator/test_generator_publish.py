"""Records reach the receiver by the clock, and only what arrived is counted."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from generator.errors import InfrastructureError
from generator.outlet import KafkaOutlet, producer_options
from generator.progress import Progress
from generator.publish import Clock, publish
from generator.scenario import build_scenario
from generator.tally import Tally
from generator.transport import Record


def _lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "transport.jsonl").read_text().splitlines()]


class _Instant:
    """A receiver that acknowledges at once, and stops the run after so many records."""

    def __init__(self, stop: threading.Event, stop_after: int = 10**9) -> None:
        self.records: list[Record] = []
        self._new: list[Record] = []
        self._stop, self._stop_after = stop, stop_after
        self.waiting = 0

    def send(self, records: list[Record]) -> None:
        self.records += records
        self._new += records
        if len(self.records) >= self._stop_after:
            self._stop.set()

    def acknowledged(self) -> list[Record]:
        done, self._new = self._new, []
        return done

    def flush(self, timeout_s: float) -> None:
        pass


def _publish(scenario, folder: Path, stop_after: int = 10**9) -> tuple[_Instant, Tally, bool]:
    stop = threading.Event()
    receiver = _Instant(stop, stop_after)
    with Tally(scenario.network, folder) as tally:
        complete = publish(scenario, receiver, tally, Progress(scenario, quiet=True), stop)
    return receiver, tally, complete


def test_sending_by_the_clock_takes_the_time_planned_and_loses_nothing(make, tmp_path):
    scenario = build_scenario(make(meters=100, rate=2000.0, seconds=1.0, faults="none"))
    clock = Clock(scenario.plan)
    receiver, tally, complete = _publish(scenario, tmp_path)
    assert complete
    assert scenario.plan.wall_s(scenario.plan.closing_end_ms) - 0.2 <= clock.passed_s() < 10
    assert tally.produced == len(receiver.records) > 2000
    assert [record.due_ms for record in receiver.records] == sorted(r.due_ms for r in receiver.records)


def test_a_stopped_run_counts_exactly_what_arrived(make, tmp_path):
    scenario = build_scenario(make(meters=100, rate=4000.0, seconds=5.0, malformed_share=0.02))
    receiver, tally, complete = _publish(scenario, tmp_path, stop_after=500)
    summary = tally.summary(scenario.plan, 1.0, interrupted=True)
    assert not complete
    assert summary["produced"] == len(receiver.records)
    assert summary["produced"] == summary["readings"] + summary["resent"] + sum(summary["rejected"].values())
    odd = summary["late"] + summary["out_of_order"] + summary["resent"] + sum(summary["rejected"].values())
    assert len(_lines(tmp_path)) == odd


class _Future:
    def __init__(self, error: Exception | None) -> None:
        self.is_done, self.exception = True, error


class _Producer:
    def __init__(self, error: Exception | None = None) -> None:
        self.sent: list[tuple] = []
        self._error = error

    def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2, 3}

    def send(self, *args: object) -> _Future:
        self.sent.append(args)
        return _Future(self._error)


def test_the_producer_gets_key_header_and_a_future_stamped_ahead_of_the_wall_clock(demo):
    producer = _Producer()
    sender = KafkaOutlet(producer, "sensor-readings", demo.network)
    good = b'{"meterId":"m-00004","timestamp":1}'
    sender.send([Record(1, 1, 3, 4, "future_clock", good), Record(2, 2, 3, 4, "tombstone", None)])
    (topic, future, key, headers, partition), tombstone = producer.sent
    sent_at = int(dict(headers)["sent-at"])
    assert (topic, key) == ("sensor-readings", b"m-00004")
    assert json.loads(future)["timestamp"] == sent_at + 3_600_000
    assert tombstone[1] is None
    assert partition == tombstone[4]
    assert len(sender.acknowledged()) == 2
    assert sender.waiting == 0


def test_a_lost_record_is_an_error_that_names_the_topic(demo):
    sender = KafkaOutlet(_Producer(ValueError("gone")), "sensor-readings", demo.network)
    sender.send([Record(1, 1, 0, 0, "", b"{}")])
    with pytest.raises(InfrastructureError, match="delivery to topic sensor-readings: got gone"):
        sender.acknowledged()


def test_the_producer_loses_nothing_and_takes_its_security_from_the_environment():
    options = producer_options("a:1,b:2", {"GRIDWATCH_KAFKA__SECURITY_PROTOCOL": "SASL_SSL"})
    assert options["bootstrap_servers"] == ["a:1", "b:2"]
    assert (options["acks"], options["enable_idempotence"]) == ("all", True)
    assert options["security_protocol"] == "SASL_SSL"
    assert "sasl_plain_password" not in options
