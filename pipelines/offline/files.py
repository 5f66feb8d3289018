"""Files of readings: any parquet or CSV of the documented columns, block by block in one schema."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.dataset as ds

from pipelines.csv_files import look_alikes, require_commas
from pipelines.errors import SettingsError

REQUIRED = ("meter_id", "ts", "voltage_v")
OPTIONAL = ("current_a", "temperature_c", "status")
SCHEMA = pa.schema(
    [
        ("meter_id", pa.string()),
        ("ts", pa.timestamp("us", tz="UTC")),
        ("voltage_v", pa.float64()),
        ("current_a", pa.float64()),
        ("temperature_c", pa.float64()),
        ("status", pa.string()),
        ("row_number", pa.int64()),
    ]
)
RUN_FILE = "readings.parquet"
"""What `gridwatch generate` calls its readings, beside other files."""
_ENDINGS = {".csv": "csv", ".csv.gz": "csv", ".parquet": "parquet", ".pq": "parquet"}
_HINT = "name a parquet or csv file, or a folder of such"
_CSV_VALUE = re.compile(r"CSV column #(\d+).*?invalid value '(.*)'", re.DOTALL)
_CELL = re.compile(r"Failed to parse string: '(.*?)' as")


def open_readings(path: Path) -> ds.Dataset:
    """A parquet or CSV file, a folder of one kind, or that of a generator's run.

    Raises SettingsError when it is none, lacks a column, or holds times that are numbers.
    """
    files = _files(path)
    kinds = {_kind(file) for file in files}
    if len(kinds) > 1:
        raise SettingsError(f"--readings {path} holds parquet and csv files; name one of them, or a folder of one kind")
    is_csv = kinds == {"csv"}
    try:
        if is_csv:
            _require_columns(path, pa.schema([(name, pa.string()) for name in next(_csv_lines(files[0]), [])]))
        rows = ds.dataset([str(file) for file in files], format=_csv_format() if is_csv else "parquet")
        _require_columns(path, rows.schema)
        if len(files) > 1:
            _require_alike(rows)
    except (pa.ArrowException, OSError, EOFError, csv.Error) as error:
        raise SettingsError(_refused(files[0], error)) from None
    return rows


def blocks(readings: ds.Dataset, names: Sequence[str] = SCHEMA.names) -> Iterator[pa.Table]:
    """The readings in these columns of SCHEMA, block by block, in the order of the files.

    A time without a zone is UTC; nanoseconds are cut to microseconds. `row_number` counts
    over all files. Raises SettingsError, with file and column, for a value that its column's type cannot hold.
    """
    count = 0
    present = [name for name in names if name in readings.schema.names]
    for fragment in readings.get_fragments():
        try:
            for batch in fragment.to_batches(schema=readings.schema, columns=present):
                yield _uniform(batch, names, count)
                count += batch.num_rows
        except (pa.ArrowException, OSError, _NoValue) as error:
            raise SettingsError(_refused(Path(fragment.path), error)) from None


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise SettingsError(f"--readings {path}: no such file; {_HINT}")
    if not path.is_dir():
        return [path]
    if (path / RUN_FILE).is_file():
        return [path / RUN_FILE]
    inside = (file for file in sorted(path.rglob("*")) if file.is_file() and file.name[0] not in "._")
    files = [file for file in inside if file.name.lower().endswith(tuple(_ENDINGS))]
    if not files:
        raise SettingsError(f"--readings {path}: no parquet or csv file in this folder; {_HINT}")
    return files


def _kind(file: Path) -> str:
    return next((kind for end, kind in _ENDINGS.items() if file.name.lower().endswith(end)), "parquet")


def _csv_format() -> ds.CsvFileFormat:
    """Numbers as numbers and names as text (007 is not 7), whatever the first lines look like."""
    types = {name: SCHEMA.field(name).type for name in (*REQUIRED, *OPTIONAL) if name != "ts"}
    return ds.CsvFileFormat(convert_options=pacsv.ConvertOptions(column_types=types))


def _require_columns(path: Path, schema: pa.Schema) -> None:
    found = [str(name) for name in schema.names]
    require_commas(f"--readings {path}", found)
    if not found:
        raise SettingsError(f"--readings {path} is empty; {_HINT}")
    missing = [name for name in REQUIRED if name not in found]
    if missing:
        raise SettingsError(
            f"--readings {path}: no column {', '.join(missing)}; {look_alikes(missing, found)}it needs"
            f" {', '.join(REQUIRED)}, and may have {', '.join(OPTIONAL)}"
        )
    twice = [name for name in SCHEMA.names if found.count(name) > 1]
    if twice:
        raise SettingsError(f"--readings {path}: column {', '.join(twice)} stands twice; keep one")
    kind = schema.field("ts").type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        raise SettingsError(
            f"--readings {path}: column ts holds numbers ({kind}); give times: ISO text in a csv, timestamps in a"
            " parquet file, for instance pandas.to_datetime(ts, unit='ms', utc=True)"
        )


def _require_alike(rows: ds.Dataset) -> None:
    """Of files with other columns than the first the dataset would give nulls."""
    wanted = {name for name in SCHEMA.names if name in rows.schema.names}
    for fragment in rows.get_fragments():
        found = {name for name in SCHEMA.names if name in fragment.physical_schema.names}
        if found != wanted:
            raise SettingsError(
                f"--readings {fragment.path}: column {', '.join(sorted(found ^ wanted))} is"
                f" {'missing' if wanted - found else 'there'}, unlike in {rows.files[0]}; name them one by one, or make"
                " them alike"
            )


def _uniform(batch: pa.RecordBatch, names: Sequence[str], first_number: int) -> pa.Table:
    columns = []
    for name in names:
        kind = SCHEMA.field(name).type
        if name == "row_number":
            columns.append(pa.array(np.arange(first_number, first_number + batch.num_rows)))
        elif name in batch.schema.names:
            columns.append(_cast(batch[name], name, kind))
        else:
            columns.append(pa.nulls(batch.num_rows, kind))
    return pa.table(columns, schema=pa.schema([SCHEMA.field(name) for name in names]))


class _NoValue(ValueError):
    """A value that its column's type cannot hold."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def _cast(values: pa.Array, name: str, kind: pa.DataType) -> pa.Array:
    try:
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_timestamp(kind):
            return _times(values)
        return values.cast(kind, safe=pa.types.is_floating(kind))
    except pa.ArrowException as error:
        raise _NoValue(name, _first_line(error)) from None


def _times(values: pa.Array) -> pa.Array:
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        try:
            return values.cast(pa.timestamp("us", tz="UTC"))
        except pa.ArrowInvalid as with_zone:
            try:
                values = values.cast(pa.timestamp("us"))
            except pa.ArrowInvalid as without:
                # Where others name a zone, that one does not is the smaller mistake: it may be no time at all.
                raise (with_zone if "expected no zone offset" in str(without) else without) from None
    if pa.types.is_timestamp(values.type) and values.type.tz is not None:
        return values.cast(pa.timestamp("us", tz="UTC"), safe=False)
    return pc.assume_timezone(values.cast(pa.timestamp("us"), safe=False), "UTC")


def _refused(file: Path, error: Exception) -> str:
    """One line about a value, with its line where the file has lines."""
    in_csv = _CSV_VALUE.search(str(error))
    cell = _CELL.search(str(error))
    column = error.column if isinstance(error, _NoValue) else ""
    value = in_csv[2] if in_csv else cell[1] if cell else None
    if in_csv and not column:
        column = _column_at(file, int(in_csv[1]))
    if value is None or not column:
        where = f", column {column}" if column else ""
        return f"--readings {file}{where}: {_first_line(error)}; {_HINT}"
    line = _line_of(file, column, value) if _kind(file) == "csv" else None
    wanted = "ISO time such as 2026-03-02T12:00:00Z" if column == "ts" else "number"
    place = f", line {line}" if line else ""
    return f"--readings {file}{place}, column {column}: {value!r} is no {wanted}; an unknown value is left empty"


def _column_at(file: Path, place: int) -> str:
    header = next(_csv_lines(file), [])
    return header[place] if place < len(header) else ""


def _line_of(file: Path, column: str, value: str) -> int | None:
    lines = _csv_lines(file)
    place = next(lines).index(column)
    return next((number for number, row in enumerate(lines, 2) if len(row) > place and row[place] == value), None)


def _csv_lines(file: Path) -> Iterator[list[str]]:
    opened = gzip.open if file.suffix.lower() == ".gz" else open
    with opened(file, "rt", newline="", encoding="utf-8-sig", errors="replace") as text:
        yield from csv.reader(text)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
