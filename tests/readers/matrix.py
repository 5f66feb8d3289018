"""Tables by readers: how many rows each finds, and whether all find the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pipelines.settings import Settings
from pipelines.small_tables import table_is_there, table_version
from pipelines.tables import TABLES
from tests.readers.engines import Engine

_ATTEMPTS = 3
SAME, DIFFERENT, FAILED, WRITTEN = "same", "different", "failed", "written meanwhile"


@dataclass(frozen=True)
class Line:
    """One table at one version: rows by reader, or the first line of the reader's error."""

    table: str
    version: int
    rows: Mapping[str, int | str]
    verdict: str

    @property
    def ok(self) -> bool:
        """Whether every reader found the same."""
        return self.verdict == SAME


def matrix(settings: Settings, readers: Mapping[str, Engine]) -> Iterator[Line]:
    """A line for every table that is there."""
    for name, table in TABLES.items():
        if table_is_there(settings, table):
            yield _line(settings, name, readers)


def _line(settings: Settings, name: str, readers: Mapping[str, Engine]) -> Line:
    """Asked again when the table was written between two readers, which then rightly differ."""
    for _ in range(_ATTEMPTS):
        version = table_version(settings, TABLES[name])
        rows = {reader: _count(engine, name) for reader, engine in readers.items()}
        if table_version(settings, TABLES[name]) == version:
            return Line(name, version, rows, _verdict(rows))
    return Line(name, version, rows, WRITTEN)


def _count(engine: Engine, name: str) -> int | str:
    try:
        return engine.count(name)
    except Exception as error:  # whatever a reader may raise is what this looks for
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"


def _verdict(rows: Mapping[str, int | str]) -> str:
    if any(isinstance(found, str) for found in rows.values()):
        return FAILED
    return SAME if len(set(rows.values())) == 1 else DIFFERENT
