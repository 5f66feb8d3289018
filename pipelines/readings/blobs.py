"""How chunks of a batch travel between Spark's workers and the driver: Arrow streams, schemas, checksums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
import pyarrow as pa

from pipelines.readings.recent_keys import Longs, mix

if TYPE_CHECKING:
    import polars as pl


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


def runs(values: Longs) -> Longs:
    """Values that follow each other and are equal: first each value, then how many they are.

    >>> runs(np.array([5, 5, 7, 5]))
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
