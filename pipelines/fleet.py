"""The meters and the fault labels: from CSV into their tables, at the start of the job that owns them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pyspark.sql import types as T

from pipelines import small_tables
from pipelines.csv_files import Row, columns_of, look_alikes, number_in, read_rows, time_in
from pipelines.errors import SettingsError
from pipelines.identity.tables import missing_columns
from pipelines.settings import Detection, MeterClass, Settings
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

    Raises SettingsError as `read_fleet`, `read_csv` and, without `lake.fleet`, `require_known_classes` do.
    """
    lake = settings.lake
    if lake.fleet:
        rows = read_fleet(Path(lake.fleet), settings.detection)
        replace_rows(as_arrow(rows, METERS), settings, METERS)
    else:
        require_known_classes(settings)
    if lake.labels:
        faults = list(read_csv(Path(lake.labels), LABELS, option="lake.labels"))
        replace_rows(as_arrow(faults, LABELS), settings, LABELS)


def read_fleet(path: Path, detection: Detection, *, option: str = "lake.fleet") -> list[tuple[Any, ...]]:
    """The rows of `read_csv` with the nominal voltage and rated current of the meter's class where the file has none.

    Raises SettingsError as it does, and for a class that `detection.classes` does not know.
    """
    rows = []
    for row in read_csv(path, METERS, option=option):
        meter = dict(zip(METERS.column_names, row, strict=True))
        own = _class_of(meter["meter_class"], detection, f"{option} {path}, meter {meter['meter_id']}")
        rows.append(tuple(getattr(own, name, None) if value is None else value for name, value in meter.items()))
    return rows


def require_known_classes(settings: Settings) -> None:
    """Raises SettingsError when the table `meters` has a class that `detection.classes` does not know, or is of a
    version without classes while the settings have some."""
    if settings.detection.classes and missing_columns(settings, METERS):
        raise SettingsError(
            f"table meters of {settings.lake.root} is of an earlier version, which had no classes: start"
            " `gridwatch run` of this version once, with a lake.fleet that has the column meter_class"
        )
    named = (
        small_tables.read_rows(settings, METERS, columns=["meter_id", "meter_class"])["meter_class"]
        .unique()
        .to_pylist()
    )
    for name in sorted(set(named) - {None}):
        _class_of(name, settings.detection, f"table meters of {settings.lake.root}")


def _class_of(name: str | None, detection: Detection, said: str) -> MeterClass | None:
    if name is None or name in detection.classes:
        return detection.classes.get(name or "")
    known = f"one of {', '.join(detection.classes)}" if detection.classes else "empty, as there are no classes"
    raise SettingsError(f"{said}: meter_class = {name!r} must be {known}; correct it, or set detection.classes.{name}")


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
