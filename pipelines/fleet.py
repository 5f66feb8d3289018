"""The meters and the fault labels: from CSV into their tables, at the start of the job that owns them."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import types as T

from pipelines.errors import SettingsError
from pipelines.settings import Settings
from pipelines.small_tables import as_arrow, replace_rows
from pipelines.tables import LABELS, METERS, Table


def load_reference_tables(settings: Settings) -> None:
    """Overwrite `meters` by `lake.fleet` and `labels` by `lake.labels`, where these are set.

    Raises SettingsError for a file that is missing, lacks the first column, or names a meter twice.
    """
    for table, path in ((METERS, settings.lake.fleet), (LABELS, settings.lake.labels)):
        if path:
            replace_rows(as_arrow(list(read_csv(Path(path), table)), table), settings, table)


def read_csv(path: Path, table: Table) -> Iterable[tuple[Any, ...]]:
    """Rows of a CSV in the table's columns; a column that the file lacks, and an empty field, is null."""
    key = table.columns[0].name
    seen: set[str] = set()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            if key not in (reader.fieldnames or ()):
                raise SettingsError(f"{path}: no column {key}; it needs {', '.join(table.column_names)}")
            for row in reader:
                if row[key] in seen:
                    raise SettingsError(f"{path}, line {reader.line_num}: {key} {row[key]} stands twice")
                seen.add(row[key])
                yield tuple(_value(path, reader.line_num, row, column.name, column.type) for column in table.columns)
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}; set lake.fleet to the CSV of your meters") from None


def _value(path: Path, line: int, row: dict[str, str], name: str, kind: T.DataType) -> Any:
    text = row.get(name)
    if not text:
        return None
    try:
        if isinstance(kind, T.DoubleType):
            return float(text)
        if isinstance(kind, T.TimestampType):
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        raise SettingsError(f"{path}, line {line}: {name} = {text!r} is no {kind.simpleString()}") from None
    return text
