"""What runs first in Spark's Python workers: Kafka records to blobs and facts. What runs then: `writing`.

A *chunk* is what one Arrow batch of Kafka records became: its partition and its first offset name it. Between the two
passes the driver decides, from the facts, and Spark keeps the blobs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from pipelines.readings.absent import absent_quantities
from pipelines.readings.blobs import arrow_schema, checksum, runs, to_blob
from pipelines.readings.recent_keys import Longs, reading_keys

if TYPE_CHECKING:
    import polars as pl

    from pipelines.readings.decode import Decoded, Decoder

FACTS = (
    "partition int, first_offset long, records long, accepted long, rejected long, reasons string, absent string,"
    " rejected_bytes long, checksum long, max_kafka_ms long, appended binary, keys binary, event_ms binary"
)
BLOBS = "readings binary, refused binary"
"""Arrow streams of the accepted readings and of the rejected items."""
CHUNKS = f"{FACTS}, {BLOBS}"

APPENDED_STEP_MS = 100
"""`appended` counts records by broker time, in steps of this length."""

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
        "absent": json.dumps(absent_quantities([decoded])),
        "rejected_bytes": int(refused.estimated_size()),
        "checksum": checksum(readings, refused),
        "max_kafka_ms": int(kafka_ms.max()),
        "appended": runs(kafka_ms // APPENDED_STEP_MS).tobytes(),
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
