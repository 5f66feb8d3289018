"""gridwatch under open-loop traffic: pipeline and alerts as their own processes, watched from outside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.answers import PacedAnswer, paced_answer
from benchmarks.candidates import Place
from benchmarks.load import SEED, start_paced
from benchmarks.measure import WrongAnswer
from benchmarks.product import ALERTS, RUN, Product, place_product
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.local.processes import Child, LocalParts, log_text, wait_until
from pipelines.reconcile.verify import VerifyReport, verify
from pipelines.settings import Settings
from pipelines.topics import topic_offsets

JOBS = {RUN: "pipeline", ALERTS: "alerts"}
"""The parts of a deployment: command and name, in the order of their start."""
SHARED_MACHINE = {"GRIDWATCH_PIPELINE__NICENESS": "10"}
"""Settings for a machine that runs everything and nothing else: the alerts come first."""
_READY_LIMIT_S = 240.0


@dataclass(frozen=True)
class Traffic:
    """Open-loop traffic of `meters`, each read every whole number of seconds that comes nearest to the rate."""

    rate: int
    seconds: int
    storm_s: int = 0
    meters: int = 10_000
    seed: int = SEED
    rarer: int = 1
    """So many times fewer meter minutes are odd than one of a hundred."""

    @property
    def cadence_s(self) -> int:
        """Seconds between two readings of a meter.

        >>> Traffic(167, 60, meters=10_000).cadence_s, Traffic(10_000, 60).cadence_s
        (60, 1)
        """
        return max(1, round(self.meters / self.rate))

    @property
    def readings(self) -> int:
        """In all."""
        return self.rate * self.seconds

    @property
    def storm_from(self) -> int:
        """Number of the first reading of the storm; `readings` when there is none."""
        return self.rate * (self.seconds - self.storm_s)

    def due_ms(self, start_ms: int, number: int) -> int:
        """When a reading is due, epoch ms: also its event time."""
        return start_ms + number * 1000 * self.cadence_s // self.meters


@dataclass
class Live:
    """One deployment, and the jobs and the traffic that run over it."""

    place: Place
    traffic: Traffic
    product: Product
    jobs: dict[str, Child] = field(default_factory=dict)
    producer: Child | None = None

    @property
    def folder(self) -> Path:
        """Folder of the deployment."""
        return self.product.folder

    @property
    def settings(self) -> Settings:
        """What its jobs run with."""
        return self.product.settings

    def start_job(self, parts: LocalParts, command: str) -> None:
        """Start RUN or ALERTS and wait until it reads. The job ends with `parts`."""
        before = self.product.starts(command)
        self.jobs[command] = parts.add(self.product.start(command))
        self.wait(lambda: self.product.starts(command) > before, _READY_LIMIT_S, f"{command} to read")

    def start_traffic(self, parts: LocalParts) -> None:
        """Start the producer."""
        t, topic = self.traffic, self.settings.kafka.topics.readings
        self.producer = parts.add(
            start_paced(
                self.place.bootstrap, topic, self.folder, readings=t.readings, rate=t.rate, meters=t.meters,
                cadence_s=t.cadence_s, storm_from=t.storm_from, seed=t.seed,
                rarer=t.rarer,
            )
        )  # fmt: skip

    def pids(self) -> dict[str, int]:
        """Process ids of the jobs by name."""
        return {JOBS[command]: child.pid for command, child in self.jobs.items()}

    def wait(self, condition: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait while all jobs run. Raises InfrastructureUnavailable when one ends or the time is over."""
        if not wait_until(lambda: condition() or not self._all_run(), limit_s, poll_s=0.2):
            raise InfrastructureUnavailable(f"waited {limit_s:.0f} s for {what}; logs: {self.folder}")
        self.require_jobs()

    def require_jobs(self) -> None:
        """Raises GridwatchError when a job has ended."""
        for name, child in self.jobs.items():
            if not child.is_running():
                raise GridwatchError(f"{name} ended: {child.log_tail(2)}; see {child.log}")

    def _all_run(self) -> bool:
        return all(child.is_running() for child in self.jobs.values())

    @property
    def start_ms(self) -> int:
        """When the producer sent its first reading, epoch ms."""
        assert self.producer is not None
        for line in log_text(self.producer.log).splitlines():
            if line.startswith("start "):
                return int(line.split()[1])
        raise InfrastructureUnavailable(f"the producer has not started; see {self.producer.log}")

    def sent(self) -> int:
        """Records in the topic of the readings."""
        return sum(end for _, end in topic_offsets(self.settings.kafka, self.settings.kafka.topics.readings).values())

    def archived(self) -> int:
        """Records the archive has committed."""
        return self.product.archived()

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a question to the tables."""
        return self.product.ask(sql)

    def anomalies(self) -> list[tuple[dict[str, Any], int]]:
        """Every record of the topic anomalies with its broker time (ms), repeats included."""
        return self.product.anomalies()

    def last_tick(self) -> int:
        """Newest window end that was written in full, epoch ms; 0 before the first."""
        return self.product.last_tick()

    def closable_ms(self) -> int:
        """The newest window end that the whole traffic closes."""
        last_ms = self.traffic.due_ms(self.start_ms, self.traffic.readings - 1)
        slide_ms = int(self.settings.detection.slide_s * 1000)
        return (last_ms - int(self.settings.detection.watermark * 1000)) // slide_ms * slide_ms

    def drain(self, limit_s: float) -> float:
        """Wait until all is archived and judged, and the last window that can close has closed; returns the seconds."""
        began = time.monotonic()
        self.wait(lambda: self.archived() >= self.sent(), limit_s, "the archive to reach the end")
        if ALERTS in self.jobs:
            self.wait(lambda: self.product.judged() >= self.sent(), limit_s, "the alerts to reach the end")
        self.wait(lambda: self.last_tick() >= self.closable_ms(), limit_s, "the last window to close")
        return time.monotonic() - began

    def verified(self) -> VerifyReport:
        """Kafka against the tables, after `drain`. Raises WrongAnswer unless each record stands there exactly once."""
        found = verify(self.settings)
        if found.lag or not found.ok:
            raise WrongAnswer(
                f"of {self.sent():,} readings {found.unaccounted} are not accounted for, {found.duplicates} stand"
                f" twice, {found.lag} are missing at the end; {'; '.join(found.audit_problems) or 'the audit agrees'}"
            )
        return found

    def expected(self) -> PacedAnswer:
        """What must have been found."""
        t = self.traffic
        return paced_answer(
            self.start_ms,
            t.readings,
            cadence_s=t.cadence_s,
            meters=t.meters,
            seed=t.seed,
            storm_from=t.storm_from,
            rarer=t.rarer,
        )


@contextmanager
def deployment(place: Place, name: str, traffic: Traffic, **more: str) -> Iterator[tuple[Live, LocalParts]]:
    """Topics, fleet and settings of a run of the jobs; whatever was started in it is stopped at its end.

    `more`: environment variables of further settings.
    """
    product = place_product(
        place.bootstrap, place.folder / name, readings=f"readings-{name}", meters=traffic.meters,
        cadence_s=traffic.cadence_s, **more,
    )  # fmt: skip
    with LocalParts() as parts:
        yield Live(place, traffic, product), parts
