"""Programs of ours as a user starts them, each test with topics, tables and a checkpoint of its own."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition

from pipelines.jobs.pipeline import READY
from pipelines.lake_sql import open_lake
from pipelines.local.processes import Child, tail, wait_until
from pipelines.reconcile.verify import VerifyReport, verify
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.topics import create_topics, topic_offsets

ROOT = Path(__file__).parents[2]
MARK = "INTEGRATION_TEST_MARK"
"""Environment variable that all descendants of a program inherit: it finds them, whatever they are called."""
KEPT = ("GRIDWATCH_CACHE", "GRIDWATCH_CONF_DIR")
FLEETING = {
    "GRIDWATCH_PIPELINE__ARCHIVE_TRIGGER": "2 s",
    "GRIDWATCH_PIPELINE__QUIET_TRIGGER": "2 s",
    "GRIDWATCH_PIPELINE__WINDOWS_TRIGGER": "4 s",
    "GRIDWATCH_PIPELINE__JVM_OPTIONS": "-XX:TieredStopAtLevel=1",
    "GRIDWATCH_PIPELINE__DRIVER_MEMORY": "1g",
}
"""A test's pipeline lives for a minute: short pauses, and no time for the optimising compiler."""


_NO_MORE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Place:
    """Where one test works: a folder with tables and checkpoint, and topics nobody else uses."""

    folder: Path
    bootstrap_servers: str
    more: Mapping[str, str] = field(default_factory=dict)
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def with_settings(self, **values: object) -> Self:
        """The same place with further settings, `lake__fleet=...` for lake.fleet."""
        named = {f"GRIDWATCH_{name.upper()}": str(value) for name, value in values.items()}
        return replace(self, more={**self.more, **named})

    @property
    def environment(self) -> dict[str, str]:
        """Environment of the test's programs: ours without foreign settings, with those of the place."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("GRIDWATCH_", "SPARK_", "PYSPARK_")) or name in KEPT
        }
        return inherited | self._settings() | {MARK: self.mark, "PYTHONPATH": str(ROOT)}

    @property
    def settings(self) -> Settings:
        """The settings its programs see."""
        return load_settings(environment=self._settings()).settings

    @property
    def run_dir(self) -> Path:
        """What the generator writes."""
        return self.folder / "generator"

    def log(self, name: str) -> Path:
        """Log of a program."""
        return self.folder / f"{name}.log"

    def start(self, name: str, *argv: str | Path, more: Mapping[str, str | None] = _NO_MORE) -> Child:
        """Start a program in the place's folder, outside the checkout; `more` goes into its environment, and what is
        None there is taken out of it."""
        changed: dict[str, str | None] = {**self.environment, **more}
        environment = {variable: value for variable, value in changed.items() if value is not None}
        return Child.start(name, argv, log=self.log(name), env=environment, cwd=self.folder)

    def gridwatch(self, name: str, *arguments: str) -> Child:
        """Start `gridwatch ...`."""
        return self.start(name, sys.executable, "-m", "pipelines", *arguments)

    def generator(self, *arguments: str) -> Child:
        """Start the generator on the readings topic; `summary` is there when it has ended."""
        topic = self.settings.kafka.topics.readings
        command = [sys.executable, "-m", "generator", "--quiet", "--run-dir", str(self.run_dir)]
        target = ["--bootstrap-servers", self.bootstrap_servers, "--topic", topic]
        return self.start("generator", *command, *target, *arguments)

    def generate(self, *arguments: str, timeout_s: float = 90) -> dict[str, Any]:
        """Run the generator to its end; returns its summary."""
        with stopped(self.generator(*arguments)) as child:
            wait_for_end(child, timeout_s, code=0)
        return self.summary()

    def summary(self) -> dict[str, Any]:
        """What the generator says it sent."""
        found: dict[str, Any] = json.loads((self.run_dir / "summary.json").read_text(encoding="utf-8"))
        return found

    def create_topics(self) -> None:
        """Make the place's topics."""
        create_topics(self.settings)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query over the tables."""
        with open_lake(self.settings) as lake:
            return lake.execute(query).fetchall()

    def archived(self) -> bool:
        """Whether the archive is at the broker's end."""
        ends = topic_offsets(self.settings.kafka, self.settings.kafka.topics.readings)
        done = dict(self.ask("SELECT kafka_partition, max(last_offset) + 1 FROM audit GROUP BY 1"))
        return all(done.get(partition, 0) >= end for partition, (_, end) in ends.items())

    def verify(self) -> VerifyReport:
        """Kafka against the tables."""
        return verify(self.settings)

    def _settings(self) -> dict[str, str]:
        topics = ("readings", "anomalies", "ticks", "incidents", "dead_letters", "actions")
        return {
            **{f"GRIDWATCH_KAFKA__TOPICS__{name.upper()}": f"{self.mark[:8]}-{name}" for name in topics},
            "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "GRIDWATCH_KAFKA__PARTITIONS": "2",
            "GRIDWATCH_LAKE__ROOT": str(self.folder / "lake"),
            "GRIDWATCH_PIPELINE__CHECKPOINT": str(self.folder / "checkpoint"),
            **{name: os.environ[name] for name in KEPT if name in os.environ},
            **FLEETING,
            **self.more,
        }


@contextmanager
def stopped(child: Child, grace_s: float = 30) -> Iterator[Child]:
    """The child, stopped by its id at the end of the block, also when the test fails."""
    try:
        yield child
    finally:
        child.stop(grace_s)


def wait_for_text(child: Child, text: str, timeout_s: float, *, after: int = 0) -> None:
    """Wait until the child has said `text` behind character `after` of its log; fails with its last lines."""
    wait_until(lambda: text in text_of(child.log)[after:] or not child.is_running(), timeout_s, poll_s=0.05)
    assert text in text_of(child.log)[after:], explain(child, f"never said {text!r}")


def wait_for(child: Child, what: str, condition: Callable[[], bool], timeout_s: float) -> None:
    """Wait until a condition holds while the child runs; fails with its last lines."""
    met = wait_until(lambda: condition() or not child.is_running(), timeout_s, poll_s=1.5)
    assert child.is_running(), explain(child, f"ended before {what}")
    assert met, explain(child, f"{what}: not within {timeout_s:g} s")


def wait_for_end(child: Child, timeout_s: float, *, code: int) -> str:
    """Wait for the child's own end with this exit code; returns all it said."""
    assert child.wait(timeout_s), explain(child, f"still runs after {timeout_s:g} s")
    ended = child.kill()  # it has ended: this only collects the exit code
    assert ended == code, explain(child, f"ended with {ended} instead of {code}")
    return text_of(child.log)


def wait_until_reading(pipeline: Child, *, after: int = 0) -> None:
    """Wait until the pipeline's queries run."""
    wait_for_text(pipeline, READY, 150, after=after)


def interrupt(child: Child, number: signal.Signals = signal.SIGINT) -> None:
    """A signal to the program alone, not to what it started."""
    os.kill(child.pid, number)


def explain(child: Child, problem: str) -> str:
    """For an assertion: what went wrong and the end of the child's log."""
    return f"{child.name} {problem}; the end of {child.log}:\n{tail(child.log, 60)}"


def text_of(log: Path) -> str:
    """The log so far."""
    return log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""


def marked_processes(mark: str) -> dict[int, str]:
    """Running processes that inherited a place's mark: id and command line. Linux only."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if command:  # a zombie has none
                    found[int(folder.name)] = command
        except OSError:  # it ended meanwhile, or is not ours
            continue
    return found


def none_left(mark: str, timeout_s: float = 10) -> bool:
    """Whether all marked processes are gone within the time."""
    return wait_until(lambda: not marked_processes(mark), timeout_s, poll_s=0.1)


def end_leftovers(mark: str) -> None:
    """SIGKILL to what a failed test left behind, by id."""
    for pid in marked_processes(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def records_of(settings: Settings, topic: str) -> list[Any]:
    """All records that a topic holds now."""
    ends = {p: end for p, (_, end) in topic_offsets(settings.kafka, topic).items()}
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap_servers, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, p) for p in ends]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        records: list[Any] = []
        deadline = time.monotonic() + 30
        while any(consumer.position(p) < ends[p.partition] for p in parts):
            assert time.monotonic() < deadline, f"topic {topic} could not be read to its end within 30 s"
            for batch in consumer.poll(timeout_ms=500).values():
                records += batch
        return records
    finally:
        consumer.close()


def words(arguments: Mapping[str, object]) -> Sequence[str]:
    """Options as words of a command line."""
    return [word for name, value in arguments.items() for word in (name, str(value))]
