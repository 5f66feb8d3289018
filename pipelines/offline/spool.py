"""Rows put aside by parts and taken back part by part: in memory where there is one part, else on disk."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import polars as pl
import pyarrow as pa

MOST_PARTS = 400
"""Each part that is written to is an open file."""


class Spool:
    """Parts 0, 1, ... of rows of one schema. What is left on disk is removed at the end of the `with` block."""

    def __init__(self, folder: Path, parts: int) -> None:
        """`folder` is made when there is more than one part; what a killed run has left there is removed."""
        self._folder, self.parts = folder, parts
        self._kept: list[pl.DataFrame] = []
        self._writers: dict[int, tuple[Any, Any]] = {}
        self._remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()
        self._remove()

    def _remove(self) -> None:
        if self._folder.exists():
            for file in self._folder.iterdir():
                file.unlink()
            self._folder.rmdir()

    def add(self, rows: pl.DataFrame, part: pl.Series) -> None:
        """`part`: the part of each row."""
        if self.parts == 1:
            self._kept.append(rows)
            return
        for (number,), some in rows.with_columns(part.alias("part")).group_by("part", maintain_order=True):
            self._write(int(number), some.drop("part").to_arrow())

    def take(self, number: int, *, again: bool = False) -> pl.DataFrame | None:
        """The rows of a part in the order in which they came; None without any. No row may be added afterwards.
        `again`: they are wanted once more."""
        if self.parts == 1:
            kept = self._kept
            self._kept = kept if again else []
            return pl.concat(kept) if kept else None
        self._close()
        path = self._path(number)
        if not path.exists():
            return None
        with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as reader:
            rows = pl.DataFrame(reader.read_all())
        if not again:
            path.unlink()
        return rows

    def _write(self, number: int, rows: pa.Table) -> None:
        if number not in self._writers:
            self._folder.mkdir(exist_ok=True)
            sink = pa.OSFile(str(self._path(number)), "wb")
            options = pa.ipc.IpcWriteOptions(compression="lz4")
            self._writers[number] = sink, pa.ipc.new_stream(sink, rows.schema, options=options)
        self._writers[number][1].write_table(rows)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.arrow"

    def _close(self) -> None:
        for sink, writer in self._writers.values():
            writer.close()
            sink.close()
        self._writers = {}
