"""A lake of real Delta tables and a checkpoint in a temporary folder; what goes to Kafka is collected."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from pipelines.broker.records import Record
from pipelines.jobs.context import Run
from pipelines.settings import Kafka, Settings
from pipelines.small_tables import create_tables


@dataclass
class Outbox:
    """Stands in for Kafka: takes what `send_records` would send; can fail like a broker that is gone."""

    records: list[tuple[str, str | None, Any]] = field(default_factory=list)
    fail_on: str | None = None
    let_through: int = 0
    """So many sends to `fail_on` succeed before the one that fails."""
    headers: dict[str, set[str]] = field(default_factory=dict)
    """Names of the headers of the last send, by topic."""

    def send_records(self, kafka: Kafka, topic: str, records: Iterable[Record]) -> None:
        """Collect records, or fail once at the topic named in `fail_on`, after `let_through` sends to it."""
        self._fail_on_purpose(topic)
        for key, value, headers in records:
            self.headers[topic] = {name for name, _ in headers}
            self.records.append((topic, None if key is None else key.decode(), value and json.loads(value)))

    def _fail_on_purpose(self, topic: str) -> None:
        if topic == self.fail_on:
            if self.let_through == 0:
                self.fail_on = None
                raise ConnectionError("the broker is gone")
            self.let_through -= 1

    def take(self, topic: str) -> list[tuple[str | None, Any]]:
        """(key, document) sent to a topic since the last call for it."""
        taken = [(key, value) for name, key, value in self.records if name == topic]
        self.records = [record for record in self.records if record[0] != topic]
        return taken


MakeRun = Callable[[Path], Run]


@pytest.fixture(scope="session")
def make_run(spark: SparkSession) -> MakeRun:
    """A run whose tables and checkpoint lie in a folder."""

    def make(folder: Path) -> Run:
        settings = Settings.model_validate(
            {"lake": {"root": str(folder / "lake")}, "pipeline": {"checkpoint": str(folder / "checkpoint")}}
        )
        create_tables(settings)
        return Run(spark, settings, "generation", lambda line: None)

    return make
