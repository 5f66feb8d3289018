"""Files of readings as Spark can take them: any parquet or CSV of the documented columns, made uniform on disk."""

from __future__ import annotations

import math
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

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
METERS_MEASURED = 50


def open_readings(path: Path) -> ds.Dataset:
    """A parquet or CSV file, or a folder of one kind. Raises SettingsError when it is none or lacks a column."""
    if not path.exists():
        raise SettingsError(f"--readings {path}: no such file; name a parquet or csv file, or a folder of such")
    is_csv = path.suffix in (".csv", ".gz") or any(path.glob("*.csv"))
    try:
        rows = ds.dataset(path, format="csv" if is_csv else "parquet")
    except (pa.ArrowInvalid, OSError) as error:
        raise SettingsError(f"--readings {path}: {str(error).splitlines()[0]}; name a parquet or csv file") from None
    missing = [name for name in REQUIRED if name not in rows.schema.names]
    if missing:
        raise SettingsError(
            f"--readings {path}: no column {', '.join(missing)}; it needs {', '.join(REQUIRED)}, and may have"
            f" {', '.join(OPTIONAL)}"
        )
    return rows


def write_uniform(readings: ds.Dataset, target: Path) -> int:
    """Write the readings as one parquet file in SCHEMA, block by block, and return how many there are.

    A time without a zone is UTC; nanoseconds, which Spark cannot read, are cut to microseconds. `row_number`
    counts in the order of the files. Raises SettingsError for a value that its column's type cannot hold.
    """
    count = 0
    names = [name for name in SCHEMA.names if name in readings.schema.names]
    with pq.ParquetWriter(target, SCHEMA, compression="zstd") as writer:
        for batch in readings.to_batches(columns=names):
            writer.write_table(_uniform(batch, count))
            count += batch.num_rows
    return count


def cadence_of(readings: ds.Dataset, path: Path) -> float:
    """Seconds between two readings of a meter: the median over some meters, a whole number >= 1.

    Raises SettingsError when none of them has two readings.
    """
    first = readings.head(100_000, columns=["meter_id"])["meter_id"].cast(pa.string())
    chosen = pc.unique(first.drop_null())[:METERS_MEASURED]
    table = readings.to_table(columns=["meter_id", "ts"])
    some = table.filter(pc.is_in(table["meter_id"].cast(pa.string()), chosen))
    ordered = some.sort_by([("meter_id", "ascending"), ("ts", "ascending")])
    frame = ordered.to_pandas()
    gaps = frame.groupby("meter_id")["ts"].diff().dt.total_seconds()
    median = float(gaps[gaps > 0].median())
    if math.isnan(median):
        raise SettingsError(f"--readings {path}: no meter has two readings; set detection.cadence_s")
    return max(1.0, float(round(median)))


def _uniform(batch: pa.RecordBatch, first_number: int) -> pa.Table:
    columns = []
    for field in SCHEMA:
        if field.name == "row_number":
            columns.append(pa.array(range(first_number, first_number + batch.num_rows), pa.int64()))
        elif field.name in batch.schema.names:
            columns.append(_cast(batch[field.name], field))
        else:
            columns.append(pa.nulls(batch.num_rows, field.type))
    return pa.table(columns, schema=SCHEMA)


def _cast(values: pa.Array, field: pa.Field) -> pa.Array:
    try:
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(values.type) and values.type.tz is None:
            return pc.assume_timezone(values.cast(pa.timestamp("us"), safe=False), "UTC")
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        return values.cast(field.type, safe=pa.types.is_floating(field.type))
    except pa.ArrowInvalid as error:
        raise SettingsError(f"--readings, column {field.name}: {error}") from None
