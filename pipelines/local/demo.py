"""The main job on one machine: a real broker, both jobs, the generator, then the reckoning."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from pipelines.alerts import READY as ALERTS_READY
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.jobs import pipeline as pipeline_job
from pipelines.lake_sql import open_lake
from pipelines.local.broker import start_broker
from pipelines.local.cache import pinned
from pipelines.local.demo_console import start_console
from pipelines.local.demo_report import DemoReport, build_report
from pipelines.local.java import require_java
from pipelines.local.objectstore import start_objectstore
from pipelines.local.processes import Child, LocalParts, log_text, run_logged
from pipelines.local.spark_kit import spark_kit
from pipelines.reconcile.verify import verify
from pipelines.settings import Settings
from pipelines.settings_load import environment_name, is_secret, load_settings, setting_fields
from pipelines.small_tables import count_rows, highest_value, read_rows
from pipelines.tables import ANOMALIES, AUDIT, INCIDENTS, METER_WINDOWS, Table
from pipelines.topics import create_topics, topic_offsets

Say = Callable[[str], None]

CADENCE_S = 10
BUCKET = "gridwatch"
_READY = (pipeline_job.READY, ALERTS_READY)
"""Name, command, and what it says when it reads."""
_READY_LIMIT_S = 240.0
_DRAIN_LIMIT_S = 180.0
_PROGRESS_S = 5.0
_SETTLED_S = 40.0


@dataclass(frozen=True)
class DemoOptions:
    """Options of `gridwatch demo`: wall seconds of traffic, readings a second, meters, local | minio."""

    seconds: float
    rate: float
    meters: int
    store: str
    seed: int
    run_dir: Path
    console: bool = True

    @property
    def speed(self) -> float:
        """Event seconds a wall second."""
        return self.rate * CADENCE_S / self.meters

    @property
    def watermark_s(self) -> float:
        """2 s of the wall clock, in event time, and at least 10 s."""
        return max(10.0, 2 * self.speed)

    def traffic(self) -> list[str]:
        """The generator's arguments: fleet, rate, faults."""
        late_by_s = 4 * self.watermark_s + 5 * self.speed
        values = {
            "--meters": self.meters, "--rate": self.rate, "--seconds": self.seconds, "--cadence": CADENCE_S,
            "--seed": self.seed, "--watermark": self.watermark_s, "--late-by": late_by_s, "--faults": "demo",
        }  # fmt: skip
        return [word for name, value in values.items() for word in (name, str(value))]


class Demo:
    """One demo. Whatever it starts is stopped at the end, after Ctrl-C and after an error; logs are kept."""

    def __init__(self, options: DemoOptions, say: Say) -> None:
        self.options = options
        self._say = say
        self._dir = options.run_dir
        self._environment: dict[str, str] = {}
        self._stored = 0
        self._stored_since = 0.0

    def run(self, then: Callable[[DemoReport, str | None], None] = lambda report, page: None) -> DemoReport:
        """Run it and return the report. Raises GridwatchError when a part fails.

        `then` is given the report and the page's address while broker, tables and console are still there.
        """
        started = time.monotonic()
        require_java()
        self._dir.mkdir(parents=True, exist_ok=True)
        with LocalParts() as parts, ThreadPoolExecutor(max_workers=1) as beside:
            kit = beside.submit(spark_kit, self._say)
            self._start_servers(parts)
            self._generate("--plan-only", *self.options.traffic())
            kit.result()
            settings = self.settings()
            create_topics(settings)
            page = self._show_console(parts)
            job = self._start_pipeline(parts)
            self._say("grid and faults planned, pipeline and alerts reading: sending traffic")
            self._send_traffic(parts, job, settings)
            self._drain(job, settings)
            job.stop(grace_s=20)
            self._say("drained, reconciling Kafka with the tables")
            report = self._report(settings, time.monotonic() - started)
            then(report, page)
            return report

    def settings(self) -> Settings:
        """Settings of the run, as its pipeline sees them."""
        return load_settings(environment=self._environment).settings

    def assignments(self) -> list[str]:
        """The settings of the run that are not defaults, as `section.name=value`; no secrets."""
        return [
            f"{name}={self._environment[variable]}"
            for name, field in setting_fields()
            if (variable := environment_name(name)) in self._environment and not is_secret(field)
        ]

    def _start_servers(self, parts: LocalParts) -> None:
        self._say("starting a Kafka broker")
        broker = parts.add(start_broker(self._dir / "broker", say=self._say))
        self._environment = {
            "GRIDWATCH_SETTINGS": os.devnull,  # that of the user is for a grid of his own
            "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "GRIDWATCH_LAKE__ROOT": str(self._dir / "lake"),
            "GRIDWATCH_LAKE__FLEET": str(self._dir / "fleet.csv"),
            "GRIDWATCH_LAKE__LABELS": str(self._dir / "labels.csv"),
            "GRIDWATCH_PIPELINE__CHECKPOINT": str(self._dir / "checkpoint"),
            "GRIDWATCH_DETECTION__CADENCE_S": str(CADENCE_S),
            "GRIDWATCH_DETECTION__WATERMARK": f"{self.options.watermark_s:g} s",
            **_BRISK,
        }
        if self.options.store == "minio":
            self._say("starting a MinIO object store")
            store = parts.add(start_objectstore(self._dir / "objectstore", say=self._say))
            store.create_bucket(BUCKET)
            self._environment |= {
                "GRIDWATCH_LAKE__ROOT": f"s3a://{BUCKET}/lake",
                "GRIDWATCH_STORE__ENDPOINT": store.endpoint,
                "GRIDWATCH_STORE__ACCESS_KEY": store.access_key,
                "GRIDWATCH_STORE__SECRET_KEY": store.secret_key,
            }

    def _show_console(self, parts: LocalParts) -> str | None:
        if not self.options.console:
            return None
        log = self._dir / "console.log"
        page = start_console(parts, self._child_environment(), log)
        self._say(f"the console is at {page}" if page else f"the console did not come up: {_last_line(log)}")
        return page

    def _generate(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "generator", *arguments, "--run-dir", str(self._dir)]
        code = run_logged(command, log=self._dir / "plan.log", on_line=lambda line: None, env=self._child_environment())
        if code:
            raise GridwatchError(f"the generator could not plan the run: {_last_line(self._dir / 'plan.log')}")

    def _start_pipeline(self, parts: LocalParts) -> Child:
        """Start it, with the alerts as its child, and return when both read."""
        self._say("starting the pipeline (Spark) and its alerts")
        argv = [sys.executable, "-m", "pipelines", "run"]
        job: Child = parts.start("pipeline", argv, log=self._dir / "pipeline.log", env=self._child_environment())
        deadline = time.monotonic() + _READY_LIMIT_S
        while not all(ready in log_text(job.log) for ready in _READY):
            self._require_running(job)
            if time.monotonic() > deadline:
                raise InfrastructureUnavailable(
                    f"the pipeline was not ready within {_READY_LIMIT_S:g} s; see {job.log}"
                )
            time.sleep(0.2)
        return job

    def _send_traffic(self, parts: LocalParts, job: Child, settings: Settings) -> None:
        command = [sys.executable, "-m", "generator", "--plan", str(self._dir / "plan.json"), "--quiet"]
        command += ["--bootstrap-servers", settings.kafka.bootstrap_servers, "--run-dir", str(self._dir)]
        generator = parts.start("generator", command, log=self._dir / "generator.log", env=self._child_environment())
        while generator.is_running():
            self._require_running(job)
            self._show_progress(settings)
            generator.wait(_PROGRESS_S)
        if code := generator.stop():
            raise GridwatchError(f"the generator ended with {code}: {_last_line(self._dir / 'generator.log')}")

    def _drain(self, job: Child, settings: Settings) -> None:
        """Wait until the archive is at the broker's end, the last window has closed and its incidents are stored."""
        self._say("all readings sent, draining")
        data_end_ms = json.loads((self._dir / "plan.json").read_text())["data_end"]
        deadline = time.monotonic() + _DRAIN_LIMIT_S
        while not self._is_drained(settings, data_end_ms):
            self._require_running(job)
            if time.monotonic() > deadline:
                self._say(f"not drained after {_DRAIN_LIMIT_S:g} s, going on; see {job.log}")
                return
            time.sleep(1)

    def _is_drained(self, settings: Settings, data_end_ms: int) -> bool:
        topics = settings.kafka.topics
        if not self._has_read(settings, topics.readings, AUDIT, "last_offset"):
            return False
        newest = highest_value(settings, METER_WINDOWS, "window_end")
        if newest is None or newest.timestamp() * 1000 < data_end_ms:
            return False
        if not self._has_read(settings, topics.anomalies, ANOMALIES, "kafka_offset") and not self._is_settled(settings):
            return False
        # The last ticks have arrived when nothing is open any more that the newest window end closes.
        incidents = read_rows(settings, INCIDENTS, where="status = 'open'").to_pylist()
        return not any(
            row["last_anomaly_at"] + timedelta(seconds=settings.session_rules.off_delay) <= newest
            for row in incidents
            if row["family"] != "silence"
        )

    def _has_read(self, settings: Settings, topic: str, table: Table, column: str) -> bool:
        """Whether a table holds the last record of every partition of a topic."""
        rows = read_rows(settings, table, columns=["kafka_partition", column]).group_by("kafka_partition")
        last = {row["kafka_partition"]: row[f"{column}_max"] for row in rows.aggregate([(column, "max")]).to_pylist()}
        return all(last.get(p, -1) + 1 >= end for p, (_, end) in topic_offsets(settings.kafka, topic).items())

    def _is_settled(self, settings: Settings) -> bool:
        """Whether the table anomalies has stopped growing: its topic may end with repeats, which are not stored."""
        now, stored = time.monotonic(), count_rows(settings, ANOMALIES)
        if stored != self._stored:
            self._stored, self._stored_since = stored, now
        return now - self._stored_since > _SETTLED_S

    def _show_progress(self, settings: Settings) -> None:
        sent = sum(end for _, end in topic_offsets(settings.kafka, settings.kafka.topics.readings).values())
        archived = pc.sum(read_rows(settings, AUDIT, columns=["records_in"])["records_in"]).as_py() or 0
        status = read_rows(settings, INCIDENTS, columns=["status"])["status"].to_pylist()
        self._say(
            f"sent {sent:,}, archived {archived:,}, anomalies {count_rows(settings, ANOMALIES):,},"
            f" incidents {len(status)} ({status.count('open')} open)"
        )

    def _report(self, settings: Settings, seconds: float) -> DemoReport:
        summary: dict[str, Any] = json.loads((self._dir / "summary.json").read_text())
        checked = verify(settings, self._say)
        with open_lake(settings) as lake:
            return build_report(
                lake, settings, checked, summary,
                store=self.options.store, versions=_versions(), seconds=round(seconds, 1),
            )  # fmt: skip

    def _require_running(self, job: Child) -> None:
        if not job.is_running():
            raise GridwatchError(f"the {job.name} ended: {_last_line(job.log)}; see {job.log}")

    def _child_environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("GRIDWATCH_")}
        kept = {name: os.environ[name] for name in ("GRIDWATCH_CACHE", "GRIDWATCH_CONF_DIR") if name in os.environ}
        return ours | kept | self._environment


_BRISK = {
    "GRIDWATCH_PIPELINE__ARCHIVE_TRIGGER": "2 s",
    "GRIDWATCH_PIPELINE__QUIET_TRIGGER": "2 s",
    "GRIDWATCH_PIPELINE__WINDOWS_TRIGGER": "2 s",
    "GRIDWATCH_PIPELINE__JVM_OPTIONS": "-XX:TieredStopAtLevel=1",
    "GRIDWATCH_PIPELINE__NICENESS": "3",
    "GRIDWATCH_PIPELINE__STOP_WITHIN": "5 s",
}
"""Event time runs fast in the demo, so its batches come more often than a real grid needs; and in one minute the
optimising compiler costs more than it gains (docs/adr/0005)."""


def _versions() -> dict[str, str]:
    names = ("gridwatch", "pyspark", "delta-spark", "deltalake", "kafka-python", "duckdb")
    parts = {"python": platform.python_version(), "kafka": pinned("broker", "kafka").rsplit(":", 1)[-1]}
    return {name: version(name) for name in names} | parts


def _last_line(log: Path) -> str:
    lines = [line for line in log_text(log).splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
