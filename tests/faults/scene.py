"""One pipeline with its topics, tables and traffic: started, killed, started again, and checked."""

from __future__ import annotations

import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from pipelines.alerts.group import committed
from pipelines.errors import GridwatchError
from pipelines.jobs.pipeline import READY
from pipelines.local.processes import Child, wait_until
from pipelines.small_tables import STORE_ERRORS, highest_value, read_rows, table_version
from pipelines.tables import ANOMALIES, AUDIT, METER_WINDOWS
from pipelines.topics import topic_offsets
from tests.faults.checker import (
    TopicLog,
    check_anomalies,
    check_dead_letters,
    check_flags,
    check_records,
    check_windows,
)
from tests.faults.expect import Ended, last_words, require
from tests.faults.tables import Kill, batches, fates, newest_closed, windows
from tests.faults.traffic import Sent, Traffic
from tests.integration.rest import newest_batches
from tests.integration.support import Place, interrupt, text_of

if TYPE_CHECKING:
    from tests.faults.bench import Bench

START_S = 180.0
QUICK = {
    "pipeline__archive_trigger": "1 s",
    "pipeline__quiet_trigger": "1 s",
    "pipeline__windows_trigger": "2 s",
    "pipeline__max_offsets_per_trigger": 3000,
    "detection__watermark": "60 s",
}
_UNREACHABLE = 4
_RESTART = re.compile(r"restart \d+ of \d+")
_READ_ERRORS = (duckdb.Error, GridwatchError, *STORE_ERRORS)


@dataclass
class Scene:
    """A place with its pipeline; `lives` counts the processes started in it."""

    bench: Bench
    place: Place
    direct: Place
    """The same place as the harness sees it: past the proxies."""
    lives: int = 0
    pipeline: Child | None = None
    _logs: dict[str, TopicLog] = field(default_factory=dict)

    def open(self, seed: int, meters: int) -> None:
        """Make the topics and the traffic."""
        self.place = self.place.with_settings(**{**QUICK, **_given(self.place)})
        self.direct = replace(self.direct, more=self._past_the_proxy(self.place.more))
        self.direct.create_topics()
        settings = self.direct.settings
        servers, topic = settings.kafka.bootstrap_servers, settings.kafka.topics.readings
        self.traffic = Traffic(servers, topic, seed=seed, meters=meters)

    def _past_the_proxy(self, more: Mapping[str, str]) -> dict[str, str]:
        on_store = "GRIDWATCH_STORE__ENDPOINT" in more
        return {**more, **({"GRIDWATCH_STORE__ENDPOINT": self.bench.store.endpoint} if on_store else {})}

    # -- the pipeline's lives

    def start(self, *arguments: str, more: Mapping[str, str | None] | None = None) -> Child:
        """Start the pipeline; its log is a new file."""
        self.lives += 1
        name = f"pipeline-{self.lives}"
        self.pipeline = self.place.start(name, *_program("run", *arguments), more=more or {})
        return self.pipeline

    def running(self) -> Child:
        """The pipeline, started when it does not run, once its queries run."""
        if self.pipeline is None or not self.pipeline.is_running():
            self.wait_ready(self.start())
        assert self.pipeline is not None
        return self.pipeline

    def wait_ready(self, child: Child, limit_s: float = START_S) -> None:
        """Wait until the queries run. Raises NotHeld when the pipeline ends first."""
        wait_until(lambda: READY in text_of(child.log) or not child.is_running(), limit_s, poll_s=0.05)
        require(READY in text_of(child.log), f"the pipeline did not start: {last_words(child)}")

    def kill(self) -> Kill:
        """kill -9 to the pipeline with its JVM."""
        if self.pipeline is not None:
            self.pipeline.kill()
        return Kill(time.time(), self.ends())

    def stop(self, limit_s: float = 60.0) -> int:
        """SIGTERM to the pipeline alone; returns its exit code. Raises NotHeld when it takes longer."""
        child = self.pipeline
        if child is None or not child.is_running():
            return 0
        interrupt(child, signal.SIGTERM)
        ended = child.wait(limit_s)
        code = child.kill()
        require(ended, f"still runs {limit_s:g} s after SIGTERM")
        return code

    def ended(self, child: Child, limit_s: float) -> int:
        """Exit code of a pipeline that must end by itself."""
        in_time = child.wait(limit_s)
        code = child.kill()
        require(in_time, f"still runs after {limit_s:g} s: {last_words(child)}")
        return code

    def refused(self, *arguments: str, code: int, says: str, limit_s: float = 120.0, place: Place | None = None) -> str:
        """Start it; it must end by itself with this code and say so in its last line, which is returned."""
        self.lives += 1
        child = (place or self.place).start(f"pipeline-{self.lives}", *_program("run", *arguments))
        got = self.ended(child, limit_s)
        line = last_words(child)
        require(got == code, f"ended with {got} instead of {code}: {line}")
        require(re.search(says, line) is not None, f"does not say {says!r}: {line}")
        require("Traceback" not in text_of(child.log), f"ends in a stack trace, see {child.log}")
        return line

    def catch_up(self, limit_s: float = 180.0, *, whole: bool = True) -> dict[str, Any]:
        """Supervise the pipeline until all that was sent has gone all the way; returns times and restarts.

        An exit with code 4 (infrastructure) is answered with a new start, as a supervisor does; another is NotHeld.
        """
        began, starts = time.monotonic(), 0
        first_output: float | None = None
        before = self.audited()
        steps = [self._is_archived, lambda: self._has_ended("archive")]
        steps += [self._has_windows, self._has_judged, self._has_anomalies] if whole else []
        child = self.running()
        told = self.restarts_of(child)
        while steps:
            if not child.is_running():
                code = child.kill()
                if code != _UNREACHABLE:
                    raise Ended(f"ended with {code}: {last_words(child)}")
                starts += 1
                child, told = self.running(), 0
            if first_output is None and self.audited() != before:
                first_output = time.monotonic() - began
            if self._holds(steps[0]):
                steps.pop(0)
                continue
            require(time.monotonic() - began < limit_s, f"not caught up after {limit_s:g} s: {self._state()}")
            time.sleep(0.3)
        inside = self.restarts_of(child) - told
        return {"restarts": starts + inside, "first_output_s": first_output, "caught_up_s": time.monotonic() - began}

    @staticmethod
    def restarts_of(child: Child) -> int:
        """Restarts of its queries that a pipeline has announced."""
        return len(_RESTART.findall(text_of(child.log)))

    def ends(self) -> dict[int, int]:
        """Next offset of every partition of the readings."""
        kafka = self.direct.settings.kafka
        return {p: end for p, (_, end) in topic_offsets(kafka, kafka.topics.readings).items()}

    def committed(self) -> dict[int, int]:
        """One past the last offset that the archive has committed, by partition."""
        done: dict[int, int] = {}
        for row in read_rows(self.direct.settings, AUDIT, columns=["kafka_partition", "last_offset"]).to_pylist():
            done[row["kafka_partition"]] = max(row["last_offset"] + 1, done.get(row["kafka_partition"], 0))
        return done

    def has_archived(self, ends: Mapping[int, int]) -> bool:
        """Whether the archive has committed up to these offsets."""
        try:
            done = self.committed()
        except _READ_ERRORS:
            return False
        return all(done.get(partition, 0) >= end for partition, end in ends.items() if end)

    def has_anomaly_of(self, spike: Sent) -> bool:
        """Whether Kafka holds the anomaly of a reading."""
        records = self._log(self.direct.settings.kafka.topics.anomalies).extend().values()
        sources = [json.loads(record.value)["source"] for record in records]
        return any(s and (s["partition"], s["offset"]) == (spike.partition, spike.offset) for s in sources)

    # -- what the tables say

    def check(self, *, whole: bool = True) -> dict[str, Any]:
        """The checker over everything so far; returns the figures. Raises NotHeld for anything wrong."""
        settings, topics = self.direct.settings, self.direct.settings.kafka.topics
        topic, told = self._log(topics.readings).extend(), fates(self.direct)
        parts = [check_records(topic, told, self.traffic.acked, settings)]
        horizon_s = settings.resent_horizon_s
        watermark_s = settings.detection.watermark
        parts.append(check_flags(told, batches(self.direct), watermark_s=watermark_s, horizon_s=horizon_s))
        if whole:
            up_to_ms = self._ask_one("SELECT coalesce(epoch_ms(max(window_end)), 0) FROM meter_windows")
            parts.append(check_windows(told, windows(self.direct), settings, up_to_ms=up_to_ms))
            ids = [row[0] for row in self.direct.ask("SELECT anomaly_id FROM anomalies")]
            sent = self._log(topics.anomalies).extend()
            parts.append(check_anomalies(sent, ids, self.traffic.acked, topics.readings))
            letters = self._log(topics.dead_letters).extend().values()
            rejected = {place for place, fate in told if fate.reason is not None}
            parts.append(check_dead_letters(letters, rejected))
        report = self.direct.verify()
        problems = [text for part in parts for text in part.problems]
        require(report.ok, report.verdict)
        require(not problems, "; ".join(problems))
        return {name: value for part in parts for name, value in part.figures.items()}

    def settle(self, limit_s: float = 180.0) -> dict[str, Any]:
        """`catch_up`, then `check`: figures of both."""
        times = self.catch_up(limit_s)
        return times | self.check()

    def copy(self, name: str) -> Scene:
        """The same topics with a copy of tables and checkpoint: for what spoils them."""
        self.stop()
        folder = self.bench.folder / name
        for part in ("lake", "checkpoint"):
            shutil.copytree(self.place.folder / part, folder / part)
        clone = replace(self, place=replace(self.place, folder=folder), direct=replace(self.direct, folder=folder))
        clone.pipeline, clone.lives, clone._logs = None, 0, {}
        clone.traffic = self.traffic
        self.bench._scenes.append(clone)
        return clone

    @cached_property
    def checkpoint(self) -> Path:
        """Folder of the checkpoint."""
        return Path(self.place.settings.pipeline.checkpoint)

    def said(self) -> str:
        """All logs of all lives."""
        return "\n".join(text_of(log) for log in sorted(self.place.folder.glob("*.log")))

    def close(self) -> None:
        """Kill the pipeline and close the producer."""
        if self.pipeline is not None:
            self.pipeline.kill()
        self.traffic.close()

    def _log(self, topic: str) -> TopicLog:
        return self._logs.setdefault(topic, TopicLog(self.direct.settings, topic))

    def _holds(self, step: Callable[[], bool]) -> bool:
        try:
            return step()
        except _READ_ERRORS:
            return False  # a broker or store that is being restarted

    def audited(self) -> int:
        """Version of the table `audit`: it grows with every archived batch."""
        try:
            return table_version(self.direct.settings, AUDIT)
        except _READ_ERRORS:
            return 0

    def _is_archived(self) -> bool:
        return self.has_archived(self.ends())

    def _has_windows(self) -> bool:
        due = newest_closed(self.direct)
        closed = highest_value(self.direct.settings, METER_WINDOWS, "window_end")
        return (due is None or (closed is not None and closed.timestamp() >= due)) and self._has_ended("windows")

    def _has_ended(self, query: str) -> bool:
        """Whether a query's newest batch is noted as done: the tables have what it found before Kafka has."""
        begun, done = newest_batches(self.direct)[query]
        return begun == done

    def _has_judged(self) -> bool:
        """Whether the alerts have committed all there is: they see a new partition 10 s later than the archive."""
        judged = committed(self.direct.settings)
        return all(judged.get(partition, 0) >= end for partition, end in self.ends().items() if end)

    def _has_anomalies(self) -> bool:
        records = self._log(self.direct.settings.kafka.topics.anomalies).extend()
        sent = {dict(record.headers)["anomaly-id"].decode() for record in records.values()}
        rows = read_rows(self.direct.settings, ANOMALIES, columns=["anomaly_id"])
        return sent == set(rows["anomaly_id"].to_pylist())

    def _ask_one(self, query: str) -> int:
        return int(self.direct.ask(query)[0][0])

    def _state(self) -> str:
        child = self.pipeline
        return "never started" if child is None else last_words(child)


def _program(*arguments: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "pipelines", *arguments]


def _given(place: Place) -> dict[str, str]:
    """Settings of the place in the spelling of `with_settings`."""
    return {name.removeprefix("GRIDWATCH_").lower(): value for name, value in place.more.items()}
