"""The product's own jobs under open-loop traffic: started as a user starts them, watched from outside."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.answers import PacedAnswer, paced_answer
from benchmarks.candidates import Place, product_environment
from benchmarks.load import PARTITIONS, SEED, Load, start_paced, write_fleet
from benchmarks.measure import Outlet, WrongAnswer, engine_environment
from pipelines import alerts
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.jobs import pipeline
from pipelines.lake_sql import open_lake
from pipelines.local.processes import Child, LocalParts, log_text, wait_until
from pipelines.reconcile.verify import VerifyReport, verify
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.topics import create_topics, topic_offsets

_READY_LIMIT_S = 240.0
JOBS = {"run": "pipeline", "alerts": "alerts"}
"""The jobs of a deployment: command and name, in the order of their start."""
_READY = {"run": pipeline.READY, "alerts": alerts.READY}
"""What a job says when it reads, by its command."""


@dataclass(frozen=True)
class Traffic:
    """Open-loop traffic of `meters`, each read once a second or as often as the rate says."""

    rate: int
    seconds: int
    storm_s: int = 0
    meters: int = 10_000
    seed: int = SEED

    @property
    def readings(self) -> int:
        """In all."""
        return self.rate * self.seconds

    @property
    def storm_from(self) -> int:
        """Number of the first reading of the storm; `readings` when there is none."""
        return self.rate * (self.seconds - self.storm_s)


@dataclass
class Live:
    """One deployment: topics, tables, checkpoint, and the jobs that run over them."""

    place: Place
    traffic: Traffic
    folder: Path
    environment: dict[str, str]
    settings: Settings
    jobs: dict[str, Child] = field(default_factory=dict)
    producer: Child | None = None

    def start_job(self, parts: LocalParts, name: str) -> None:
        """Start `run` or `alerts` and wait until it reads. The job ends with `parts`."""
        log = self.folder / f"{name}.log"
        before = log_text(log).count(_READY[name])
        command = [sys.executable, "-m", "pipelines", name]
        child: Child = parts.start(name, command, log=log, env=engine_environment(**self.environment))
        self.jobs[name] = child
        self.wait(lambda: log_text(log).count(_READY[name]) > before, _READY_LIMIT_S, f"{name} to read")

    def start_traffic(self, parts: LocalParts) -> None:
        """Start the producer."""
        t, topic = self.traffic, self.settings.kafka.topics.readings
        self.producer = parts.add(
            start_paced(
                self.place.bootstrap, topic, self.folder, rate=t.rate, seconds=t.seconds, meters=t.meters,
                seed=t.seed, storm_s=t.storm_s,
            )
        )  # fmt: skip

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
        row = self.ask("SELECT coalesce(sum(records_in), 0)::BIGINT FROM audit")
        return int(row[0][0])

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a question to the tables."""
        with open_lake(self.settings) as lake:
            return lake.execute(sql).fetchall()

    def anomalies(self) -> list[tuple[dict[str, Any], int]]:
        """Every record of the topic anomalies with its broker time (ms), repeats included."""
        with Outlet(self.place.bootstrap, self.settings.kafka.topics.anomalies) as outlet:
            return [(json.loads(record.value), record.timestamp) for record in outlet.read()]

    def last_tick(self) -> int:
        """Newest window end that was written in full, epoch ms; 0 before the first."""
        with Outlet(self.place.bootstrap, self.settings.kafka.topics.ticks) as outlet:
            return max((json.loads(record.value)["windowEnd"] for record in outlet.read()), default=0)

    def closable_ms(self) -> int:
        """The newest window end that the whole traffic closes."""
        t = self.traffic
        last_ms = self.start_ms + (t.readings - 1) * 1000 // t.rate
        slide_ms = int(self.settings.detection.slide_s * 1000)
        return (last_ms - int(self.settings.detection.watermark * 1000)) // slide_ms * slide_ms

    def drain(self, limit_s: float) -> float:
        """Wait until all is archived and the last window that can close has closed; returns the seconds."""
        began = time.monotonic()
        self.wait(lambda: self.archived() >= self.sent(), limit_s, "the archive to reach the end")
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
            self.start_ms, t.readings, rate=t.rate, meters=t.meters, seed=t.seed, storm_from=t.storm_from
        )


@contextmanager
def deployment(place: Place, name: str, traffic: Traffic, **more: str) -> Iterator[tuple[Live, LocalParts]]:
    """Topics, fleet and settings of a run of the jobs; whatever was started in it is stopped at its end.

    `more`: environment variables of further settings.
    """
    folder = place.folder / name
    environment = product_environment(place.bootstrap, folder, readings=f"readings-{name}", suffix=name)
    environment["GRIDWATCH_DETECTION__CADENCE_S"] = f"{traffic.meters / traffic.rate:g}"
    environment["GRIDWATCH_KAFKA__PARTITIONS"] = str(PARTITIONS)
    environment["GRIDWATCH_ALERTS__WITH_PIPELINE"] = "false"  # a process of its own, to be measured and killed
    environment["GRIDWATCH_PIPELINE__NICENESS"] = "10"  # both jobs share a machine, and nothing else does
    environment |= more
    write_fleet(folder / "fleet.csv", Load(traffic.meters, meters=traffic.meters))
    settings = load_settings(environment=environment).settings
    create_topics(settings)
    with LocalParts() as parts:
        yield Live(place, traffic, folder, environment, settings), parts
