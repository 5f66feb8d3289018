"""A run written to files as fast as it can be made."""

from __future__ import annotations

import base64
import gzip
import io
import json
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from generator.encode import restamp
from generator.faults import STATUSES, Block
from generator.load import Network
from generator.malformed import FUTURE
from generator.progress import Progress
from generator.scenario import Scenario, block_length_ms, blocks
from generator.tally import Tally
from generator.transport import Record, Wire

READINGS_SCHEMA = pa.schema(
    [
        ("meter_id", pa.string()),
        ("ts", pa.timestamp("ms", tz="UTC")),
        ("voltage_v", pa.float64()),
        ("current_a", pa.float64()),
        ("temperature_c", pa.float64()),
        ("status", pa.string()),
    ]
)
BLOCK_READINGS = 60_000
DAY_MS = 86_400_000


class ReadingsFile:
    """`readings.parquet`: every reading once, by event time, without late, repeated or broken records."""

    def __init__(self, path: Path, network: Network) -> None:
        self._writer = pq.ParquetWriter(path, READINGS_SCHEMA, compression="zstd")
        self._ids = pa.array(network.meter_id, pa.string())
        self._statuses = pa.array(STATUSES, pa.string())

    def __enter__(self) -> ReadingsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, block: Block) -> None:
        """Append the block as one row group."""
        columns = [
            self._ids.take(pa.array(block.meter)),
            pa.array(block.ts).cast(pa.timestamp("ms", tz="UTC")),
            pa.array(block.voltage_v),
            pa.array(block.current_a),
            pa.array(block.temperature_c),
            self._statuses.take(pa.array(block.status)),
        ]
        self._writer.write_table(pa.Table.from_arrays(columns, schema=READINGS_SCHEMA))


def raw_line(record: Record, meter_id: str) -> str:
    """Return one line of `raw.jsonl.gz`: key, due_ts (ms, data's clock) and the value.

    `value` is the text, or null for a tombstone; bytes that are not UTF-8 stand under `value_b64` (base64).
    """
    line: dict[str, object] = {"key": meter_id, "due_ts": record.due_ms}
    try:
        line["value"] = None if record.value is None else record.value.decode()
    except UnicodeDecodeError:
        line["value_b64"] = base64.b64encode(record.value or b"").decode()
    return json.dumps(line, separators=(",", ":")) + "\n"


def write_files(
    scenario: Scenario, folder: Path, tally: Tally, progress: Progress, stop: threading.Event,
    *, raw: bool, odd: bool,
) -> bool:  # fmt: skip
    """Write `readings.parquet` and, with `raw`, `raw.jsonl.gz` (every record in sending order).

    The tally counts the records as if sent; `odd` false leaves transport faults out. Memory holds one block
    and what is held back. Returns False when `stop` was set before the end: both files are then complete
    up to a block.
    """
    plan = scenario.plan
    wire = Wire(scenario, encode=raw, odd=odd)
    with ExitStack() as stack:
        readings = stack.enter_context(ReadingsFile(folder / "readings.parquet", scenario.network))
        lines = _open_raw(folder, stack) if raw else None
        for until_ms, block in blocks(scenario, block_length_ms(plan, BLOCK_READINGS)):
            records = wire.records(block, until_ms)
            readings.write(block)
            if lines is not None:
                lines.writelines(_raw_lines(scenario, records))
            tally.add_all(records)
            progress.tick(tally.produced, until_ms)
            if stop.is_set():
                return False
    return True


def _open_raw(folder: Path, stack: ExitStack) -> IO[str]:
    binary = stack.enter_context((folder / "raw.jsonl.gz").open("wb"))
    packed = stack.enter_context(gzip.GzipFile("", "wb", compresslevel=5, fileobj=binary, mtime=0))
    return stack.enter_context(io.TextIOWrapper(packed, encoding="utf-8"))


def _raw_lines(scenario: Scenario, records: list[Record]) -> list[str]:
    ids, ahead_ms = scenario.network.meter_id, scenario.plan.data_end_ms + DAY_MS
    return [
        raw_line(_stamped(record, ahead_ms) if record.variant == FUTURE else record, ids[record.meter])
        for record in records
    ]


def _stamped(record: Record, ahead_ms: int) -> Record:
    return record._replace(value=restamp(record.value or b"{}", ahead_ms))
