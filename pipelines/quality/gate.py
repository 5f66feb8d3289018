"""One run of the gate: measure a day, judge it, keep the results."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from pipelines.addresses import is_store
from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.lake_sql import no_tables
from pipelines.quality.day import Say, find_day
from pipelines.quality.index_page import write_index
from pipelines.quality.judge import Outcome, judge, require_library
from pipelines.quality.measure import measure
from pipelines.quality.suites import all_suites
from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS, append_rows, as_arrow, create_table, table_is_there
from pipelines.table_features import require_known_features
from pipelines.tables import QUALITY_RESULTS, READINGS, TABLES


@dataclass(frozen=True)
class Verdict:
    """What a run found."""

    run_id: str
    run_at: datetime
    day: date
    readings: int
    outcomes: tuple[Outcome, ...]
    docs: Path | None
    seconds: float

    @property
    def failed(self) -> list[Outcome]:
        """Broken expectations that refuse the day."""
        return [one for one in self.outcomes if not one.success and one.check.severity == "fail"]

    @property
    def warned(self) -> list[Outcome]:
        """Broken expectations that are only said."""
        return [one for one in self.outcomes if not one.success and one.check.severity == "warn"]

    @property
    def ok(self) -> bool:
        """Whether the day passes."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """The whole report."""
        return {
            "day": str(self.day), "ok": self.ok, "run_id": self.run_id, "readings": self.readings,
            "expectations": len(self.outcomes), "failed": [f"{o.suite}.{o.check.name}" for o in self.failed],
            "warned": [f"{o.suite}.{o.check.name}" for o in self.warned],
            "data_docs": str(self.docs / "index.html") if self.docs else None, "seconds": round(self.seconds, 2),
            "results": [as_document(one) for one in self.outcomes],
        }  # fmt: skip


def run_gate(settings: Settings, day: date, *, docs: Path | None, say: Say) -> Verdict:
    """Judge a day, write data docs and append to the table quality_results.

    Nothing is written before everything is judged. Run again it appends another run. Raises DataRefused for a day
    without readings and when quality_results has a feature that not every reader knows, SettingsError without a lake or
    without Great Expectations, DataRefused or InfrastructureUnavailable when a table cannot be read.
    """
    require_library()
    began, run_at = time.monotonic(), datetime.now(UTC)
    if not table_is_there(settings, READINGS):
        raise no_tables(settings.lake.root)
    with _reading(settings):
        require_known_features(settings, [QUALITY_RESULTS])
        found = find_day(settings, day)
        frames = measure(settings, found, say)
    suites = all_suites(settings)
    say(f"judging {sum(len(suite.checks) for suite in suites)} expectations with Great Expectations")
    outcomes = tuple(judge(frames, suites, docs))
    if docs is not None:
        write_index(docs, day, outcomes)
    verdict = Verdict(uuid.uuid4().hex, run_at, day, found.readings, outcomes, docs, time.monotonic() - began)
    create_table(settings, QUALITY_RESULTS)
    with _reading(settings):
        append_rows(as_arrow(result_rows(verdict), QUALITY_RESULTS), settings, QUALITY_RESULTS)
    return verdict


@contextmanager
def _reading(settings: Settings) -> Iterator[None]:
    """Errors of DuckDB and of the Delta library in one line of ours."""
    try:
        yield
    except (duckdb.Error, *STORE_ERRORS) as error:
        what = f"lake.root = {settings.lake.root}{_named_table(str(error))}: {str(error).strip().splitlines()[0]}"
        is_damage = isinstance(error, duckdb.Error) and not isinstance(error, duckdb.IOException)
        if is_store(settings.lake.root) and not is_damage:
            raise InfrastructureUnavailable(f"{what}; `gridwatch check` tests the store") from None
        raise DataRefused(f"{what}; a file of a table is gone or damaged, or a table has not its own columns") from None


def _named_table(said: str) -> str:
    """The table whose file an error names.

    >>> _named_table("No magic bytes in '/lake/readings/event_date=2026-03-01/a.parquet'"), _named_table("no")
    (', table readings', '')
    """
    return next((f", table {name}" for name in TABLES if re.search(rf"/{name}/[^'\"\s]*\.parquet", said)), "")


def result_rows(verdict: Verdict) -> list[tuple[Any, ...]]:
    """Rows of the table quality_results."""
    return [
        (verdict.run_id, verdict.run_at, verdict.day, one.suite, one.check.name, one.check.severity, one.success,
         one.rows, one.unexpected, None if one.observed is None else to_text(one.observed), to_text(one.examples),
         one.check.meaning, one.error)
        for one in verdict.outcomes
    ]  # fmt: skip


def as_document(one: Outcome) -> dict[str, Any]:
    """An outcome as plain JSON."""
    return {
        "suite": one.suite, "expectation": one.check.name, "severity": one.check.severity, "success": one.success,
        "rows": one.rows, "unexpected": one.unexpected, "observed": json.loads(to_text(one.observed)),
        "examples": json.loads(to_text(one.examples)), "meaning": one.check.meaning, "error": one.error,
    }  # fmt: skip


def to_text(value: Any) -> str:
    """JSON of what Great Expectations hands out; times and dates as ISO, numbers of numpy as numbers.

    >>> to_text([{"n": np.int64(3), "at": datetime(2026, 3, 1)}])
    '[{"n": 3, "at": "2026-03-01T00:00:00"}]'
    """
    return json.dumps(_plain(value), ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, (date, datetime)):
        return value.isoformat()
    return value if value is None or isinstance(value, (str, int, bool)) else str(value)
