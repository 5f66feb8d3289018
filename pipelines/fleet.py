"""The meters and the fault labels: from CSV into their tables, at the start of the job that owns them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import types as T

from pipelines.csv_files import Row, columns_of, look_alikes, number_in, read_rows, time_in
from pipelines.errors import SettingsError
from pipelines.settings import Settings
from pipelines.small_tables import as_arrow, replace_rows
from pipelines.tables import LABELS, METERS, Table

RANGES = {"nominal_voltage_v": (50.0, 1_000_000.0, "V"), "rated_current_a": (0.1, 100_000.0, "A")}
"""Lowest and highest value of a column, and its unit: what is outside was given in another unit or is a placeholder."""
SILENT_WITHOUT = {
    "feeder_id": "feeder rules, voltage_step and voltage_drift are silent for them",
    "rated_current_a": "overcurrent is silent for them",
}
"""What a column of the meters is for, of those that no default stands in for."""


def load_reference_tables(settings: Settings) -> None:
    """Overwrite `meters` by `lake.fleet` and `labels` by `lake.labels`, where these are set.

    Raises SettingsError as `read_csv` does.
    """
    for table, path, option in (
        (METERS, settings.lake.fleet, "lake.fleet"),
        (LABELS, settings.lake.labels, "lake.labels"),
    ):
        if path:
            replace_rows(as_arrow(list(read_csv(Path(path), table, option=option)), table), settings, table)


def read_csv(path: Path, table: Table, *, option: str = "lake.fleet") -> Iterable[tuple[Any, ...]]:
    """Rows of a CSV in the table's columns; a column that the file lacks, and an empty field, is null.

    `option` is what named the file. Raises SettingsError for a file that is missing or no CSV, one without meters,
    and for a line without its key, with a key that stands twice, or with a value that its column cannot hold.
    """
    key = table.columns[0].name
    what = "meters" if table is METERS else "faults"
    hint = f"set {option} to the CSV of your {what}: {', '.join(table.column_names)}"
    seen: set[str] = set()
    for line, row in read_rows(path, option=option, needed=[key], hint=hint):
        said = f"{option} {path}, line {line}"
        if not row[key]:
            raise SettingsError(f"{said}: {key} is empty; name it, or take the line out")
        if row[key] in seen:
            raise SettingsError(f"{said}: {key} {row[key]} stands twice; keep one line of it")
        seen.add(row[key])
        yield tuple(_value(said, row, column.name, column.type) for column in table.columns)
    if table is METERS and not seen:
        raise SettingsError(f"{option} {path} names no meter; {hint}")


def gaps(path: Path, rows: Sequence[tuple[Any, ...]], *, option: str) -> Iterator[str]:
    """What the rows that `read_csv` made do not say, a line for each column that a rule cannot do without."""
    columns = columns_of(path)
    for name, consequence in SILENT_WITHOUT.items():
        place = METERS.column_names.index(name)
        lacking = sum(row[place] is None for row in rows)
        meant = "" if name in columns else look_alikes([name], columns).strip()
        if lacking:
            yield f"{option}: {lacking:,} of {len(rows):,} meters have no {name}: {consequence}. {meant}".strip()


def _value(said: str, row: Row, name: str, kind: T.DataType) -> Any:
    text = row.get(name)
    if not text:
        return None
    try:
        if isinstance(kind, T.DoubleType):
            return _in_range(said, name, text)
        if isinstance(kind, T.TimestampType):
            return time_in(text)
    except ValueError:
        wanted = "number" if isinstance(kind, T.DoubleType) else "ISO time"
        raise SettingsError(f"{said}: {name} = {text!r} is no {wanted}; leave it empty where it is not known") from None
    return text


def _in_range(said: str, name: str, text: str) -> float:
    value = number_in(text)
    low, high, unit = RANGES.get(name, (value, value, ""))
    if not low <= value <= high:
        raise SettingsError(
            f"{said}: {name} = {text} is outside {low:,g} to {high:,.0f} {unit}; leave it empty where it is not known"
        )
    return value
