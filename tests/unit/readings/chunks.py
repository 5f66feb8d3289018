"""Kafka records as Spark's workers get them, and both passes of a batch without Spark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from pipelines.lake.store import LakePlace
from pipelines.readings import workers, writing
from pipelines.readings.blobs import arrow_schema, from_blob, to_blob
from pipelines.readings.decode import Decoder
from pipelines.readings.facts import BatchFacts
from pipelines.readings.meters import placed_meters
from pipelines.readings.recent_keys import Longs
from pipelines.settings import Settings
from tests.factories import NOON_MS

TOPIC = "sensor-readings"
NONE: Longs = np.empty(0, np.int64)


def settings_at(folder: Path) -> Settings:
    """Settings with a lake and a checkpoint in a folder."""
    return Settings.model_validate(
        {"lake": {"root": str(folder / "lake")}, "pipeline": {"checkpoint": str(folder / "checkpoint")}}
    )


def records(
    values: Sequence[bytes | None], *, first: int = 0, partition: int = 0, at_ms: int = NOON_MS
) -> pa.RecordBatch:
    """Records with consecutive offsets, in the columns that the archive reads."""
    count = len(values)
    return pa.record_batch(
        {
            "key": pa.array([f"k{first + number}".encode() for number in range(count)], pa.binary()),
            "value": pa.array(values, pa.binary()),
            "partition": pa.array([partition] * count, pa.int32()),
            "offset": pa.array(range(first, first + count), pa.int64()),
            "timestamp": pa.array([at_ms * 1000] * count, pa.timestamp("us", "UTC")),
        }
    )


def decoded(settings: Settings, *batches: pa.RecordBatch) -> pa.Table:
    """The first pass."""
    chunks = workers.decode_records(Decoder(settings.input))(iter(batches))
    return pa.Table.from_batches(chunks, arrow_schema(workers.CHUNKS))


def facts_of(chunks: pa.Table) -> BatchFacts:
    """What reaches the driver."""
    return BatchFacts.of(chunks.drop(["readings", "refused"]))


def written(
    settings: Settings, chunks: pa.Table, decided: writing.Decided, meters: pl.DataFrame | None = None
) -> list[dict[str, Any]]:
    """The second pass: its rows, with files and chunks unpacked and panes as a frame."""
    known = pl.DataFrame(schema=_METERS) if meters is None else meters
    blob = to_blob(placed_meters(known, detection=settings.detection))
    place = replace(LakePlace.of(settings))
    writer = writing.Writer(place, decided, settings.detection, SimpleNamespace(value=blob), id(known))
    blobs = chunks.select(["partition", "first_offset", "readings", "refused"])
    rows = [row for batch in writing.write_chunks(writer)(iter(blobs.to_batches())) for row in batch.to_pylist()]
    return [
        {
            "files": json.loads(row["files"]),
            "chunks": json.loads(row["chunks"]),
            "panes": from_blob(row["panes"]),
        }
        for row in rows
    ]


def stored(settings: Settings, table: str, files: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """What data files hold."""
    return pl.concat([pl.read_parquet(f"{settings.lake.root}/{table}/{file['path']}") for file in files])


_METERS = {
    "meter_id": pl.String, "feeder_id": pl.String, "phase": pl.String, "nominal_voltage_v": pl.Float64,
    "rated_current_a": pl.Float64, "meter_class": pl.String,
}  # fmt: skip
