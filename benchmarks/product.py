"""gridwatch as it runs: processes as a user starts them, with topics, tables and a checkpoint of their own."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import PARTITIONS, write_fleet
from benchmarks.measure import Outlet, engine_environment
from pipelines import alerts
from pipelines.jobs import pipeline
from pipelines.lake_sql import open_lake
from pipelines.local.processes import Child, log_text
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from pipelines.topics import create_topics

RUN, ALERTS, WITHOUT_WINDOWS = "run", "alerts", "without-windows"
READY = {RUN: pipeline.READY, ALERTS: alerts.READY, WITHOUT_WINDOWS: pipeline.READY}
"""What a command says when it reads."""
_MODULES = {
    RUN: ("pipelines", "run"),
    ALERTS: ("pipelines", "alerts"),
    WITHOUT_WINDOWS: ("benchmarks.engines.without_windows",),
}


@dataclass(frozen=True)
class Product:
    """One deployment. Pipeline and alerts are started apart, so that each is measured apart; they are the processes
    that `gridwatch run` starts together."""

    bootstrap: str
    folder: Path
    environment: dict[str, str]
    settings: Settings

    def start(self, command: str) -> Child:
        """Start RUN, ALERTS or WITHOUT_WINDOWS; a second start goes on in the same log."""
        argv = [sys.executable, "-m", *_MODULES[command]]
        return Child.start(command, argv, log=self.log(command), env=engine_environment(**self.environment))

    def log(self, command: str) -> Path:
        """Log of a command."""
        return self.folder / f"{command}.log"

    def starts(self, command: str) -> int:
        """How often the command has said that it reads."""
        return log_text(self.log(command)).count(READY[command])

    def ask(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a question to the tables."""
        with open_lake(self.settings) as lake:
            return lake.execute(sql).fetchall()

    def archived(self) -> int:
        """Records the archive has committed."""
        row = self.ask("SELECT coalesce(sum(records_in), 0)::BIGINT FROM audit")
        return int(row[0][0])

    def judged(self) -> int:
        """Records the group of the alerts has committed."""
        from pipelines.alerts.group import committed

        return sum(committed(self.settings).values())

    def last_tick(self) -> int:
        """Newest window end that was written in full, epoch ms; 0 before the first."""
        with Outlet(self.bootstrap, self.settings.kafka.topics.ticks) as outlet:
            return max((json.loads(record.value)["windowEnd"] for record in outlet.read()), default=0)

    def anomalies(self) -> list[tuple[dict[str, Any], int]]:
        """Every record of the topic anomalies with its broker time (ms), repeats included."""
        with Outlet(self.bootstrap, self.settings.kafka.topics.anomalies) as outlet:
            return [(json.loads(record.value), record.timestamp) for record in outlet.read()]

    def records_of_meters(self) -> Iterator[Any]:
        """Records of the topic anomalies that are about a meter of the load, not a feeder or a closing reading."""
        with Outlet(self.bootstrap, self.settings.kafka.topics.anomalies) as outlet:
            yield from (record for record in outlet.read() if record.key.startswith(b"m"))


def place_product(bootstrap: str, folder: Path, *, readings: str, meters: int, cadence_s: int, **more: str) -> Product:
    """Topics, fleet and settings of a deployment named as its folder; nothing runs yet.

    `readings`: topic of the readings, made unless it is there. `more`: environment variables of further settings.
    """
    environment = {
        **_own_places(bootstrap, folder, readings),
        "GRIDWATCH_ALERTS__WITH_PIPELINE": "false",
        "GRIDWATCH_DETECTION__CADENCE_S": str(cadence_s),
        "GRIDWATCH_KAFKA__PARTITIONS": str(PARTITIONS),
        **more,
    }
    write_fleet(folder / "fleet.csv", meters)
    settings = load_settings(environment=environment).settings
    create_topics(settings)
    return Product(bootstrap, folder, environment, settings)


def ids_by_type(records: Iterable[Any]) -> dict[str, set[str]]:
    """Ids of the anomalies of readings, by type."""
    ids: dict[str, set[str]] = {}
    for record in records:
        event = json.loads(record.value)
        if event["stage"] == "reading":
            ids.setdefault(event["anomalyType"], set()).add(event["anomalyId"])
    return ids


def _own_places(bootstrap: str, folder: Path, readings: str) -> dict[str, str]:
    topics = ("ANOMALIES", "TICKS", "INCIDENTS", "DEAD_LETTERS")
    return {
        "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
        "GRIDWATCH_KAFKA__TOPICS__READINGS": readings,
        **{f"GRIDWATCH_KAFKA__TOPICS__{name}": f"{name.lower()}-{folder.name}" for name in topics},
        "GRIDWATCH_LAKE__ROOT": str(folder / "lake"),
        "GRIDWATCH_LAKE__FLEET": str(folder / "fleet.csv"),
        "GRIDWATCH_PIPELINE__CHECKPOINT": str(folder / "checkpoint"),
    }
