"""One day of the archive: whether it is there, which part of it the archive covers, and views of its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection

from pipelines.errors import DataRefused, SettingsError
from pipelines.lake_sql import view_names
from pipelines.settings import Settings
from pipelines.small_tables import open_table
from pipelines.tables import ANOMALIES, AUDIT, METER_WINDOWS, METERS, READINGS, RECOMPUTATIONS, REJECTED, Table

Say = Callable[[str], None]

JUDGED = (READINGS, METER_WINDOWS, ANOMALIES, AUDIT)
_NEEDED = (*JUDGED, REJECTED, METERS)
_SLICE = 4_000_000
"""Readings that are counted at once: bounds the memory of exact medians and distinct counts."""
_NEIGHBOUR = 0.001
"""A day with less than this part of the readings is no neighbour: a few meters with a wrong clock make such days."""


_TYPES = {
    "string": "VARCHAR", "timestamp": "TIMESTAMP WITH TIME ZONE", "date": "DATE", "double": "DOUBLE", "int": "INTEGER",
    "bigint": "BIGINT", "boolean": "BOOLEAN", "map<string,bigint>": "MAP(VARCHAR, BIGINT)",
}  # fmt: skip
"""Spark's names of types and DuckDB's, of the columns that are judged."""


@dataclass(frozen=True)
class Day:
    """A day that holds readings."""

    date: date
    readings: int
    before: int
    """Readings of the day before; 0 when there are hardly any."""
    after: int
    starts_whole: bool
    """Whether the day before is whole too, so that the two may be compared."""

    @property
    def start(self) -> datetime:
        """Inclusive."""
        return datetime(self.date.year, self.date.month, self.date.day, tzinfo=UTC)

    @property
    def end(self) -> datetime:
        """Exclusive."""
        return self.start + timedelta(days=1)

    def slices(self) -> Iterator[str]:
        """Conditions on event_ts that cut the readings of its partition into parts of some millions, none left out."""
        number = next(n for n in (1, 2, 3, 4, 6, 8, 12, 24, 48, 96) if self.readings / n <= _SLICE or n == 96)
        edges = [f"TIMESTAMPTZ '{self.start + timedelta(days=n / number)}'" for n in range(number + 1)]
        for n in range(number):
            low = "event_ts IS NULL OR " if n == 0 else f"event_ts >= {edges[n]} AND "
            yield f"({low}{f'event_ts < {edges[n + 1]}' if n + 1 < number else 'true'})"


@dataclass(frozen=True)
class Span:
    """The part of the day that the archive covers: [start, end)."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Length; never negative."""
        return max((self.end - self.start).total_seconds(), 0.0)

    def clock(self) -> str:
        """The times of the day (UTC).

        >>> Span(datetime(2026, 3, 1, 8, 28), datetime(2026, 3, 2)).clock()
        '08:28 to 24:00'
        """
        return f"{self.start:%H:%M} to {'24:00' if self.end.date() > self.start.date() else f'{self.end:%H:%M}'}"


def find_day(settings: Settings, day: date) -> Day:
    """The day as the log of the table readings knows it.

    Raises DataRefused for a day without readings: for a scheduler a silent day is no good day.
    """
    held = readings_by_day(settings)
    if not held.get(day):
        days = sorted(d for d, n in held.items() if n)
        what = f"the archive holds {days[0]} to {days[-1]}" if days else "the archive holds no readings at all"
        raise DataRefused(f"no readings on {day} in lake.root = {settings.lake.root}: {what}; give another --day")
    n = held[day]
    near = [held.get(day + timedelta(days=k), 0) for k in (-2, -1, 1)]
    two_before, before, after = (other if other >= _NEIGHBOUR * n else 0 for other in near)
    return Day(day, n, before, after, bool(two_before))


def readings_by_day(settings: Settings) -> dict[date, int]:
    """Readings by event_date, from the statistics of the table's files."""
    counts: dict[date, int] = {}
    for row in pa.table(open_table(settings, READINGS).get_add_actions(flatten=True)).to_pylist():
        day = row["partition.event_date"]
        if day is not None:
            counts[day] = counts.get(day, 0) + (row["num_records"] or 0)
    return counts


def parse_day(text: str | None, now: datetime) -> date:
    """The day that was asked for, yesterday by default. Raises SettingsError.

    >>> parse_day(None, datetime(2026, 3, 2, 1, tzinfo=UTC))
    datetime.date(2026, 3, 1)
    """
    if text is None:
        return (now - timedelta(days=1)).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"--day {text}: a day is written as YYYY-MM-DD, for example {now.date()}") from None


def make_sources(lake: DuckDBPyConnection, day: Day) -> None:
    """Views d_readings, d_windows and d_anomalies of the day, s_audit and s_rejected whole, meters as q_meters,
    the window ends that were computed again as s_recomputed.

    A column that the stored table lacks is null, and one of another type is cast, null where that cannot be: its
    type is an expectation of its own. Raises SettingsError when a table is missing.
    """
    there = view_names(lake)
    if absent := [table.name for table in _NEEDED if table.name not in there]:
        raise SettingsError(f"the lake has no table {absent[0]}: start `gridwatch run` once")
    dated = (("d_readings", READINGS, "event_date"), ("d_windows", METER_WINDOWS, "window_date"),
             ("d_anomalies", ANOMALIES, "event_date"))  # fmt: skip
    for view, table, column in dated:
        lake.execute(f"CREATE TEMP VIEW {view} AS {_select(lake, table)} WHERE {column} = DATE '{day.date}'")
    for view, table in (
        ("s_audit", AUDIT),
        ("s_rejected", REJECTED),
        ("s_readings", READINGS),
        ("s_windows", METER_WINDOWS),
    ):
        lake.execute(f"CREATE TEMP VIEW {view} AS {_select(lake, table)}")
    lake.execute(f"CREATE TEMP TABLE q_meters AS {_select(lake, METERS)}")
    ends = f"SELECT DISTINCT event_ts FROM {RECOMPUTATIONS.name} WHERE table_name = '{METER_WINDOWS.name}'"
    nothing = "SELECT NULL::TIMESTAMPTZ AS event_ts WHERE false"
    lake.execute(f"CREATE TEMP TABLE s_recomputed AS {ends if RECOMPUTATIONS.name in there else nothing}")


def _select(lake: DuckDBPyConnection, table: Table) -> str:
    stored = {row[0]: row[1] for row in lake.execute(f"DESCRIBE {table.name}").fetchall()}
    wanted = {c.name: _TYPES.get(c.type.simpleString(), "") for c in table.columns}
    nulls = "".join(f", NULL::{kind or 'VARCHAR'} AS {name}" for name, kind in wanted.items() if name not in stored)
    casts = [f"TRY_CAST({n} AS {k}) AS {n}" for n, k in wanted.items() if k and n in stored and stored[n] != k]
    replaced = f" REPLACE ({', '.join(casts)})" if casts else ""
    return f"SELECT *{replaced}{nulls} FROM {table.name}"


def one_row(lake: DuckDBPyConnection, sql: str, values: Any = None) -> tuple[Any, ...]:
    """The only row of a query."""
    row: tuple[Any, ...] = lake.execute(sql, values or {}).fetchall()[0]
    return row
