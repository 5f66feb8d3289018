"""What runs in Spark's Python workers: records to blobs and facts, then blobs to data files and partial panes.

A *chunk* is what one Arrow batch of Kafka records became: its partition and its first offset name it. Between the two
passes the driver decides, from the facts, and Spark keeps the blobs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from pipelines.contract import rejection_rule_version
from pipelines.lake.store import LakePlace
from pipelines.readings.recent_keys import Longs, mix, reading_keys
from pipelines.settings import Detection
from pipelines.tables import READINGS, REJECTED

if TYPE_CHECKING:
    import polars as pl

    from pipelines.readings.decode import Decoded, Decoder

FACTS = (
    "partition int, first_offset long, records long, accepted long, rejected long, reasons string, rejected_bytes long,"
    " checksum long, max_kafka_ms long, appended binary, keys binary, event_ms binary"
)
BLOBS = "readings binary, refused binary"
"""Arrow streams of the accepted readings and of the rejected items."""
CHUNKS = f"{FACTS}, {BLOBS}"
WRITTEN = "files string, chunks string, panes binary"

APPENDED_STEP_MS = 100
"""`appended` counts records by broker time, in steps of this length."""

_MOST_ROWS = 1_000_000
_MOST_BYTES = 128 << 20
_MOST_REFUSED_BYTES = 32 << 20
"""So much of blobs is gathered for one data file; of rejected items less, since the driver reads such a file whole."""

Chunk = tuple[int, int]
"""Partition and first offset."""
ArrowBatches = Iterator[pa.RecordBatch]


def decode_records(decoder: Decoder) -> Callable[[ArrowBatches], ArrowBatches]:
    """First pass, for `mapInArrow`: one row of CHUNKS per Arrow batch and Kafka partition.

    In: key, value, partition, offset, timestamp, as the Kafka source gives them, in order of offset. Every record is
    counted in one chunk, and each of its readings is accepted or rejected there.
    """

    def decode(batches: ArrowBatches) -> ArrowBatches:
        schema = arrow_schema(CHUNKS)
        for batch in batches:
            for partition, records in _by_partition(batch):
                yield pa.RecordBatch.from_pylist([_chunk(decoder, partition, records)], schema)

    return decode


def _by_partition(batch: pa.RecordBatch) -> Iterator[tuple[int, pa.RecordBatch]]:
    """A task of Spark reads one partition of Kafka, so this is nearly always the batch itself."""
    partitions = batch.column("partition").to_numpy()
    while len(partitions):
        is_mine = partitions == partitions[0]
        if is_mine.all():
            yield int(partitions[0]), batch
            return
        yield int(partitions[0]), batch.filter(pa.array(is_mine))
        batch, partitions = batch.filter(pa.array(~is_mine)), partitions[~is_mine]


def _chunk(decoder: Decoder, partition: int, records: pa.RecordBatch) -> dict[str, Any]:
    """A row of CHUNKS."""
    offsets = records.column("offset").to_numpy()
    kafka_ms = records.column("timestamp").cast(pa.int64()).to_numpy() // 1000
    decoded = decoder.decode(records.column("value").to_pylist(), kafka_ms.tolist())
    readings = _accepted(decoded, offsets, kafka_ms)
    refused = _refused(decoded, records, offsets, kafka_ms)
    return {
        "partition": partition,
        "first_offset": int(offsets[0]),
        "records": len(offsets),
        "accepted": readings.height,
        "rejected": refused.height,
        "reasons": json.dumps(Counter(rejection.reason for rejection in decoded.rejections)),
        "rejected_bytes": int(refused.estimated_size()),
        "checksum": checksum(readings, refused),
        "max_kafka_ms": int(kafka_ms.max()),
        "appended": _runs(kafka_ms // APPENDED_STEP_MS).tobytes(),
        "keys": readings["key"].to_numpy().tobytes(),
        "event_ms": readings["event_ms"].to_numpy().tobytes(),
        "readings": to_blob(readings),
        "refused": to_blob(refused),
    }


def _accepted(decoded: Decoded, offsets: Longs, kafka_ms: Longs) -> pl.DataFrame:
    """Columns of `readings_frame` but row, and key, kafka_offset, kafka_ms."""
    import polars as pl

    from pipelines.readings.frames import readings_frame

    frame = readings_frame(decoded)
    rows = frame["row"].to_numpy()
    return frame.drop("row").with_columns(
        pl.Series("key", reading_keys(decoded.meter_id, frame["event_ms"].to_numpy()), pl.Int64),
        pl.Series("kafka_offset", offsets[rows], pl.Int64),
        pl.Series("kafka_ms", kafka_ms[rows], pl.Int64),
    )


def _refused(decoded: Decoded, records: pa.RecordBatch, offsets: Longs, kafka_ms: Longs) -> pl.DataFrame:
    """One row per rejected item; key and value of its record stand in the first of them only."""
    import polars as pl

    rows = np.fromiter((rejection.row for rejection in decoded.rejections), np.int64)
    is_first = np.diff(rows, prepend=np.int64(-1)) != 0
    bearers = pa.array(np.where(is_first, rows, 0), mask=~is_first)
    content = {name: pl.Series(name, records.column(name).take(bearers), pl.Binary) for name in ("key", "value")}
    return pl.DataFrame(
        {
            "kafka_offset": pl.Series(offsets[rows], dtype=pl.Int64),
            "kafka_item": pl.Series([rejection.item for rejection in decoded.rejections], dtype=pl.Int32),
            "kafka_ms": pl.Series(kafka_ms[rows], dtype=pl.Int64),
            "reason": pl.Series([rejection.reason for rejection in decoded.rejections], dtype=pl.String),
            **content,
        }
    )


def _runs(values: Longs) -> Longs:
    """Values that follow each other and are equal: first each value, then how many they are.

    >>> _runs(np.array([5, 5, 7, 5]))
    array([[5, 7, 5],
           [2, 1, 1]])
    """
    firsts = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    return np.stack((values[firsts], np.diff(firsts, append=len(values))))


def checksum(readings: pl.DataFrame, refused: pl.DataFrame) -> int:
    """A number that other readings or rejected items have only by an odd chance: of what they are and where they
    came from."""
    volts = readings["voltage_v"].to_numpy().view(np.int64)
    values = np.fromiter((crc32(value or b"") for value in refused["value"]), np.int64, refused.height)
    return _sum_of(mix(readings["key"].to_numpy(), volts), readings) ^ _sum_of(values, refused)


def _sum_of(content: Longs, items: pl.DataFrame) -> int:
    places = mix(items["kafka_offset"].to_numpy(), items["kafka_item"].cast(int).to_numpy())
    return int(np.bitwise_xor.reduce(mix(content, places))) if len(content) else 0


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


def to_blob(frame: pl.DataFrame) -> bytes:
    """A frame as one Arrow stream. By pyarrow, which takes a third of the time that Polars' own writer does."""
    import polars as pl

    table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def from_blob(blob: Any) -> pl.DataFrame:
    """The frame of `to_blob`; in: bytes or an Arrow buffer."""
    import polars as pl

    return pl.DataFrame(pa.ipc.open_stream(blob).read_all())


def arrow_schema(ddl: str) -> pa.Schema:
    """The Arrow schema of columns as `FACTS` writes them."""
    types = {"int": pa.int32(), "long": pa.int64(), "string": pa.string(), "binary": pa.binary()}
    fields = (column.split() for column in ddl.split(","))
    return pa.schema([(name, types[kind]) for name, kind in fields])
