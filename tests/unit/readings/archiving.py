"""The archive without a broker and without Spark: batches of records, Spark's log of their offsets, what goes to Kafka.

Of a batch's frame the archive uses a handful of methods; `ArrowFrame` has these, with the workers' functions called in
this process. That Spark itself gives the same is shown by one test here and by all integration tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from pipelines.identity.files import CheckpointFiles
from pipelines.jobs.context import Run
from pipelines.readings import carry_out, decision
from pipelines.readings.blobs import arrow_schema
from pipelines.readings.plan import Plans
from pipelines.readings.query import ArchiveBatch
from pipelines.settings import Settings
from pipelines.small_tables import create_tables, read_rows
from pipelines.tables import AUDIT, METERS, PANES, READINGS, REJECTED, Table
from tests.factories import at
from tests.unit.readings.chunks import records, settings_at

TOPIC = "sensor-readings"
Letter = tuple[bytes | None, bytes | None, dict[str, str]]


class Killed(BaseException):
    """The process died here."""


@dataclass
class Steps:
    """What a batch does to the world, in order; it dies before or after one of these steps, once."""

    die_at: str = ""
    letters: list[Letter] = field(default_factory=list)
    ends: dict[int, int] = field(default_factory=dict)
    """Committed ends of the topic, for a batch that may be cut."""
    judged: dict[int, int] = field(default_factory=dict)

    def take(self, patch: pytest.MonkeyPatch) -> None:
        """Stand between the archive and its plan, its commits and Kafka."""
        commit, append, create = carry_out.commit_files, carry_out.append_rows_once, Plans.create
        patch.setattr(Plans, "create", lambda plans, plan: self._do("plan", lambda: create(plans, plan)))
        patch.setattr(
            carry_out, "commit_files",
            lambda settings, table, files, batch: self._do(table.name, lambda: commit(settings, table, files, batch)),
        )  # fmt: skip
        patch.setattr(
            carry_out, "append_rows_once",
            lambda rows, settings, table, batch: self._do("audit", lambda: append(rows, settings, table, batch)),
        )  # fmt: skip
        patch.setattr(
            carry_out, "send_records", lambda kafka, topic, sent: self._do("letters", lambda: self._send(sent))
        )
        patch.setattr(decision, "committed_ends", lambda kafka, topic: self.ends)
        patch.setattr(decision, "Group", lambda settings: self)

    def committed(self) -> dict[int, int]:
        """Where the alerts stand."""
        return self.judged

    def _do(self, step: str, effect: Any) -> Any:
        if self.die_at == f"before {step}":
            self.die_at = ""
            raise Killed
        done = effect()
        if self.die_at == f"after {step}":
            self.die_at = ""
            raise Killed
        return done

    def _send(self, sent: Iterable[Any]) -> None:
        self.letters += [
            (key, value, {name: content.decode() for name, content in headers}) for key, value, headers in sent
        ]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Without a death."""
    made = Steps()
    made.take(monkeypatch)
    return made


Values = Sequence[bytes | None]


@dataclass(frozen=True)
class ArrowFrame:
    """Rows of one task."""

    rows: pa.Table

    def select(self, *names: str) -> ArrowFrame:
        return ArrowFrame(self.rows.select(list(names)))

    def drop(self, *names: str) -> ArrowFrame:
        return ArrowFrame(self.rows.drop(list(names)))

    def mapInArrow(self, function: Any, schema: str) -> ArrowFrame:  # noqa: N802
        made = function(iter(self.rows.to_batches()))
        return ArrowFrame(pa.Table.from_batches(made, arrow_schema(schema)))

    def persist(self) -> ArrowFrame:
        return self

    def unpersist(self) -> ArrowFrame:
        return self

    def coalesce(self, tasks: int) -> ArrowFrame:
        return self

    def toArrow(self) -> pa.Table:  # noqa: N802
        return self.rows


class NoSpark:
    """What the archive asks of a session."""

    @property
    def sparkContext(self) -> NoSpark:  # noqa: N802
        return self

    def broadcast(self, value: bytes) -> SimpleNamespace:
        return SimpleNamespace(value=value)


def make_run(folder: Path) -> Run:
    """A run whose tables and checkpoint are in a folder."""
    return run_with(settings_at(folder))


def run_with(settings: Settings) -> Run:
    """A run with the tables that the archive writes and reads."""
    create_tables(settings, (READINGS, REJECTED, PANES, AUDIT, METERS))
    return Run(NoSpark(), settings, "generation", lambda line: None)  # type: ignore[arg-type]


def archive(
    run: Run, sink: ArchiveBatch, number: int, values: Mapping[int, tuple[int, Values]], *,
    ends: Mapping[int, int] | None = None, second: float = 700,
) -> None:  # fmt: skip
    """One batch as Spark would begin it: first offset and values by partition. `ends`: where ranges end that markers of
    transactions make longer. `second`: broker time of the records."""
    until = {p: (ends or {}).get(p, first + len(taken)) for p, (first, taken) in values.items()}
    log_offsets(run.settings, number, until)
    at_ms = round(at(second).replace(tzinfo=UTC).timestamp() * 1000)
    batches = [
        records(taken, first=first, partition=partition, at_ms=at_ms) for partition, (first, taken) in values.items()
    ]
    sink.write(ArrowFrame(pa.Table.from_batches(batches)), number)  # type: ignore[arg-type]


def log_offsets(settings: Settings, number: int, until: Mapping[int, int]) -> None:
    """What Spark notes of a batch before it begins: offsets move on from the batch before."""
    files = CheckpointFiles(settings)
    before = files.text(f"archive/offsets/{number - 1}")
    known = json.loads(before.splitlines()[-1])[TOPIC] if before else {}
    offsets = known | {str(partition): end for partition, end in until.items()}
    files.write(f"archive/offsets/{number}", "v1\n{}\n" + json.dumps({TOPIC: offsets}))


def rows_of(settings: Settings, table: Table, *names: str) -> list[tuple[Any, ...]]:
    """Rows of a table, sorted; all columns but the generated ones without names."""
    chosen = names or tuple(table.column_names)
    found = [tuple(row[name] for name in chosen) for row in read_rows(settings, table).to_pylist()]
    return sorted(found, key=repr)


def everything(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the archive's tables."""
    return {table.name: rows_of(settings, table) for table in (READINGS, REJECTED, PANES, AUDIT)}
