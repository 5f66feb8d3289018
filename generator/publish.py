"""Send a run to Kafka by the clock: a record goes out when the data's clock shows its time."""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Protocol

from generator.plan import RunPlan
from generator.progress import Progress
from generator.scenario import Scenario, block_length_ms, blocks
from generator.tally import Tally
from generator.transport import Record, Wire

BLOCK_WALL_S = 0.25
SLICE = 500
"""Most records sent before acknowledgements are looked at again."""
SHORTEST_WAIT_S = 0.005
LONGEST_WAIT_S = 0.05
MOST_WAITING = 200_000
"""Unacknowledged records after which sending pauses: an outage of the broker must not fill the memory."""
BEHIND_S = 2.0
FLUSH_S = 130.0
FLUSH_INTERRUPTED_S = 10.0


class Outlet(Protocol):
    """Where records go; see `generator.outlet.KafkaOutlet`."""

    @property
    def waiting(self) -> int:
        """Number of records sent and not acknowledged."""

    def send(self, records: list[Record]) -> None:
        """Send without waiting."""

    def acknowledged(self) -> list[Record]:
        """Return records whose delivery became certain since the last call."""

    def flush(self, timeout_s: float) -> None:
        """Wait for outstanding acknowledgements."""


class Clock:
    """The data's clock: starts at the plan's start when created and runs `speed` times as fast as time."""

    def __init__(self, plan: RunPlan, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._plan = plan
        self._monotonic = monotonic
        self._begun = monotonic()

    def now_ms(self) -> float:
        """Return the event time (epoch ms) now."""
        return self._plan.start_ms + self.passed_s() * self._plan.speed * 1000

    def passed_s(self) -> float:
        """Return the wall seconds since the start."""
        return self._monotonic() - self._begun

    def until_s(self, event_ms: float) -> float:
        """Return the wall seconds until the clock shows `event_ms`; negative when it is past."""
        return self._plan.wall_s(event_ms) - self.passed_s()


def publish(
    scenario: Scenario, outlet: Outlet, tally: Tally, progress: Progress, stop: threading.Event,
    *, odd: bool = True,
) -> bool:  # fmt: skip
    """Send all records of the run, paced by the wall clock, and count the acknowledged ones.

    Open loop: when sending cannot keep up, records go out as fast as possible and a warning says how far
    behind it is; nothing is skipped. `odd` false leaves transport faults out. Returns False when `stop`
    was set before the end; what was sent by then is flushed and counted. Raises InfrastructureError when a
    record could not be delivered.
    """
    plan = scenario.plan
    sender = _Sender(plan, outlet, tally, progress, stop)
    wire = Wire(scenario, odd=odd)
    for until_ms, block in blocks(scenario, block_length_ms(plan, round(plan.rate * BLOCK_WALL_S))):
        if not sender.send_on_time(wire.records(block, until_ms)):
            break
    interrupted = stop.is_set()
    outlet.flush(FLUSH_INTERRUPTED_S if interrupted else FLUSH_S)
    tally.add_all(outlet.acknowledged())
    return not interrupted


class _Sender:
    """Holds the clock of one run, started with it."""

    def __init__(self, plan: RunPlan, outlet: Outlet, tally: Tally, progress: Progress, stop: threading.Event) -> None:
        self._outlet, self._tally, self._progress, self._stop = outlet, tally, progress, stop
        self._clock = Clock(plan)

    def send_on_time(self, records: list[Record]) -> bool:
        """Send records in order, each when it is due; False when stopped before the last."""
        due = [record.due_ms for record in records]
        sent = 0
        while sent < len(records) and not self._stop.is_set():
            self._settle(due[sent])
            ready = bisect_right(due, self._clock.now_ms(), sent, min(sent + SLICE, len(due)))
            if ready > sent and self._outlet.waiting < MOST_WAITING:
                self._outlet.send(records[sent:ready])
                sent = ready
            else:
                self._wait(due[sent])
            self._warn_when_behind(due[min(sent, len(due) - 1)])
        return not self._stop.is_set()

    def _settle(self, due_ms: int) -> None:
        self._tally.add_all(self._outlet.acknowledged())
        self._progress.tick(self._tally.produced, min(due_ms, self._clock.now_ms()))

    def _wait(self, due_ms: int) -> None:
        until = self._clock.until_s(due_ms)
        self._stop.wait(min(LONGEST_WAIT_S, max(until, SHORTEST_WAIT_S)))

    def _warn_when_behind(self, due_ms: int) -> None:
        behind = -self._clock.until_s(due_ms)
        if behind > BEHIND_S:
            waiting = self._outlet.waiting
            cause = "this machine cannot keep up with the rate"
            if waiting >= MOST_WAITING:
                cause = f"waiting for the broker to acknowledge {waiting} records"
            self._progress.warn(f"{behind:.1f} s behind the schedule: {cause}")
