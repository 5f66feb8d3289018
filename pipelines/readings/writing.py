"""What runs second in Spark's Python workers: blobs to data files and partial panes, as the driver has decided."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.contract import rejection_rule_version
from pipelines.lake.store import LakePlace
from pipelines.readings.blobs import arrow_schema, checksum, from_blob, to_blob
from pipelines.readings.recent_keys import Longs
from pipelines.readings.workers import ArrowBatches
from pipelines.settings import Detection
from pipelines.tables import READINGS, REJECTED

if TYPE_CHECKING:
    import polars as pl

WRITTEN = "files string, chunks string, panes binary"

_MOST_ROWS = 1_000_000
_MOST_BYTES = 128 << 20
_MOST_REFUSED_BYTES = 32 << 20
"""So much of blobs is gathered for one data file; of rejected items less, since the driver reads such a file whole."""

Chunk = tuple[int, int]
"""Partition and first offset."""


@dataclass(frozen=True)
class Decided:
    """What the driver has decided of the chunks of a batch, for the workers that write them."""

    topic: str
    late_before_ms: int | None
    """Accepted readings with an earlier event time are late."""
    resent: Mapping[Chunk, bytes] = field(default_factory=dict)
    """Accepted readings of a chunk that were sent before: their numbers in it, int64."""

    def resent_rows(self, chunk: Chunk) -> Longs:
        """The same of one chunk."""
        return np.frombuffer(self.resent.get(chunk, b""), np.int64)


@dataclass(frozen=True)
class Writer:
    """All that the second pass needs besides the blobs. It travels with a closure and holds no key."""

    place: LakePlace
    decided: Decided
    detection: Detection
    meters: Any
    """Spark's broadcast of the placed meters, a blob."""
    meters_version: int


def write_chunks(writer: Writer) -> Callable[[ArrowBatches], ArrowBatches]:
    """Second pass, for `mapInArrow`: data files of `readings` and `rejected`, and partial panes of what counts.

    In: partition, first_offset and BLOBS. Out: rows of WRITTEN: the files, as `DataFile` has them, by table; what was
    written of each chunk ([partition, first_offset, accepted, rejected, checksum]); and the panes, a blob. A task that
    is tried again leaves files of its first try that no row names.
    """

    def write(batches: ArrowBatches) -> ArrowBatches:
        schema = arrow_schema(WRITTEN)
        for part in _parts(batches):
            yield pa.RecordBatch.from_pylist([_written(part, writer)], schema)

    return write


@dataclass
class _Part:
    """What goes to one set of files."""

    chunks: list[Chunk] = field(default_factory=list)
    readings: list[pl.DataFrame] = field(default_factory=list)
    refused: list[pl.DataFrame] = field(default_factory=list)
    bytes: int = 0
    refused_bytes: int = 0
    rows: int = 0

    def is_full(self) -> bool:
        return self.rows >= _MOST_ROWS or self.bytes >= _MOST_BYTES or self.refused_bytes >= _MOST_REFUSED_BYTES


def _parts(batches: ArrowBatches) -> Iterator[_Part]:
    part = _Part()
    for batch in batches:
        for number in range(batch.num_rows):
            partition, first_offset, readings, refused = (
                batch.column(name)[number] for name in ("partition", "first_offset", "readings", "refused")
            )
            part.chunks.append((partition.as_py(), first_offset.as_py()))
            part.readings.append(from_blob(readings.as_buffer()))
            part.refused.append(from_blob(refused.as_buffer()))
            part.bytes += readings.as_buffer().size
            part.refused_bytes += refused.as_buffer().size
            part.rows += part.readings[-1].height
            if part.is_full():
                yield part
                part = _Part()
    if part.chunks:
        yield part


def _written(part: _Part, writer: Writer) -> dict[str, Any]:
    """A row of WRITTEN."""
    import polars as pl

    from pipelines.lake.parquet import write_data_file
    from pipelines.windows.panes import partial_panes

    readings = _rows_of_readings(part, writer)
    rejected = _rows_of_rejected(part, writer)
    objects = writer.place.objects()
    files = {
        table.name: [asdict(write_data_file(day, table, objects)) for day in _by_day(rows, table.partition_by[0])]
        for table, rows in ((READINGS, readings), (REJECTED, rejected))
    }
    countable = readings.filter(~pl.col("is_late") & ~pl.col("is_resent"))
    return {
        "files": json.dumps(files),
        "chunks": json.dumps(list(_what_is_in(part.chunks, readings, rejected, part))),
        "panes": to_blob(partial_panes(countable, slide_s=writer.detection.slide_s)),
    }


def _rows_of_readings(part: _Part, writer: Writer) -> pl.DataFrame:
    """The columns of the table readings and those that panes and checksums want."""
    import polars as pl

    from pipelines.readings.flags import flag_readings
    from pipelines.readings.meters import attach_meters

    decided, parted = writer.decided, []
    for chunk, readings in zip(part.chunks, part.readings, strict=True):
        again = np.zeros(readings.height, dtype=bool)
        again[decided.resent_rows(chunk)] = True
        parted.append(
            readings.with_columns(pl.Series("is_resent", again), pl.lit(chunk[0], pl.Int32).alias("kafka_partition"))
        )
    placed = attach_meters(pl.concat(parted), _placed_meters(writer), detection=writer.detection)
    is_late = pl.lit(False) if decided.late_before_ms is None else pl.col("event_ms") < decided.late_before_ms
    return flag_readings(placed, detection=writer.detection).with_columns(
        is_late.alias("is_late"),
        _moment("event_ms").alias("event_ts"),
        _moment("event_ms").dt.date().alias("event_date"),
        *_coordinates(decided.topic),
    )


def _rows_of_rejected(part: _Part, writer: Writer) -> pl.DataFrame:
    """The columns of the table rejected, and kafka_ms."""
    import polars as pl

    parted = [
        refused.with_columns(pl.lit(chunk[0], pl.Int32).alias("kafka_partition"))
        for chunk, refused in zip(part.chunks, part.refused, strict=True)
    ]
    return pl.concat(parted).with_columns(
        pl.lit(rejection_rule_version()).alias("rule_version"),
        _moment("kafka_ms").dt.date().alias("kafka_date"),
        *_coordinates(writer.decided.topic),
    )


def _coordinates(topic: str) -> Iterator[pl.Expr]:
    import polars as pl

    yield pl.lit(topic).alias("kafka_topic")
    yield _moment("kafka_ms").alias("kafka_ts")


def _moment(epoch_ms: str) -> pl.Expr:
    import polars as pl

    return (pl.col(epoch_ms) * 1000).cast(pl.Datetime("us", "UTC"))


def _by_day(rows: pl.DataFrame, column: str) -> list[pl.DataFrame]:
    """The rows of each day; none without rows."""
    if not rows.height:
        return []
    if rows[column].min() == rows[column].max():
        return [rows]
    return rows.partition_by(column, maintain_order=True)


def _what_is_in(
    chunks: list[Chunk], readings: pl.DataFrame, rejected: pl.DataFrame, part: _Part
) -> Iterator[tuple[int, int, int, int, int]]:
    """Of each chunk: partition, first offset, readings, rejected items, checksum; of the rows that were written."""
    accepted_at = rejected_at = 0
    for (partition, first), mine, not_mine in zip(chunks, part.readings, part.refused, strict=True):
        stored = readings.slice(accepted_at, mine.height)
        refused = rejected.slice(rejected_at, not_mine.height)
        accepted_at, rejected_at = accepted_at + mine.height, rejected_at + not_mine.height
        yield partition, first, stored.height, refused.height, checksum(stored, refused)
    if (accepted_at, rejected_at) != (readings.height, rejected.height):
        raise ValueError(f"{readings.height} readings were to be written instead of {accepted_at}")


_PLACED: dict[int, pl.DataFrame] = {}
"""The placed meters of one version, unpacked once per worker."""


def _placed_meters(writer: Writer) -> pl.DataFrame:
    if writer.meters_version not in _PLACED:
        _PLACED.clear()
        _PLACED[writer.meters_version] = from_blob(writer.meters.value)
    return _PLACED[writer.meters_version]
