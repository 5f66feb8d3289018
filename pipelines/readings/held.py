"""Partial panes that end later than aligned time: kept beside the checkpoint until aligned time has reached them.

They lie in Parquet files, one per batch and hour of the pane, which are written once and never changed. A batch's plan
names the files that hold something back after it. How much of a file is released follows from aligned time alone: what
ends later than the aligned time of the batch before is still held. So no batch rewrites what is held.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl
from obstore.store import ObjectStore

from pipelines.errors import DataRefused
from pipelines.windows.panes import empty_panes


@dataclass(frozen=True)
class HeldFile:
    """A file of held panes, as a plan names it: `last_ts` of its rows goes from `from_ms` to `to_ms` (epoch ms)."""

    name: str
    rows: int
    from_ms: int
    to_ms: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a plan."""
        return asdict(self)


def split_panes(panes: pl.DataFrame, aligned_ms: int | None) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Released panes (`last_ts` <= aligned time) and panes to hold back; without an aligned time all are held."""
    if aligned_ms is None:
        return panes.clear(), panes
    is_released = _last_ms() <= aligned_ms
    return panes.filter(is_released), panes.filter(~is_released)


def count_after(panes: pl.DataFrame, held: Iterable[HeldFile], at_ms: int | None) -> int:
    """How many panes of a batch and of the held files would be held back at an aligned time.

    A file counts in full while it holds one of them.
    """
    of_files = sum(file.rows for file in still_held(held, at_ms))
    return of_files + split_panes(panes, at_ms)[1].height


def still_held(held: Iterable[HeldFile], aligned_ms: int | None) -> list[HeldFile]:
    """The files that hold something back at an aligned time: the next plan names them."""
    return [file for file in held if aligned_ms is None or file.to_ms > aligned_ms]


@dataclass(frozen=True)
class HeldPanes:
    """The held panes of one generation: files below a folder of the checkpoint.

    `store` begins at `pipeline.checkpoint`, a folder or a prefix of an object store. Errors of the store pass through.
    """

    store: ObjectStore
    folder: str

    def hold(self, panes: pl.DataFrame, batch: int) -> list[HeldFile]:
        """Write panes to new files, by hour of the pane; no rows make no file.

        If the process dies here, or before a plan names the files, `tidy` removes them.
        """
        by_hour = panes.sort("last_ts").with_columns(hour=pl.col("pane_start").dt.truncate("1h"))
        return [self._write(rows, batch) for rows in by_hour.partition_by("hour", include_key=False)]

    def release(self, held: Iterable[HeldFile], *, after_ms: int | None, up_to_ms: int | None) -> pl.DataFrame:
        """The held panes that aligned time reaches by moving from `after_ms` to `up_to_ms`.

        Raises DataRefused when a file is gone or damaged.
        """
        if up_to_ms is None:
            return empty_panes()
        reached = [self._read(file) for file in still_held(held, after_ms) if file.from_ms <= up_to_ms]
        panes = pl.concat([empty_panes(), *reached])
        is_new = pl.lit(True) if after_ms is None else _last_ms() > after_ms
        return panes.filter(is_new & (_last_ms() <= up_to_ms))

    def tidy(self, named: Iterable[HeldFile]) -> int:
        """Remove the files that the newest plan does not name; returns how many."""
        kept = {file.name for file in named}
        there = (found["path"] for page in self.store.list(self.folder) for found in page)
        gone: Sequence[str] = [path for path in there if path not in kept]
        if gone:
            self.store.delete(gone)
        return len(gone)

    def _write(self, rows: pl.DataFrame, batch: int) -> HeldFile:
        hour = rows["pane_start"][0].strftime("%Y%m%dT%H")
        name = f"{self.folder}/{batch}-{hour}-{uuid.uuid4().hex[:12]}.parquet"
        content = io.BytesIO()
        rows.write_parquet(content, compression="zstd", compression_level=1)
        self.store.put(name, content.getvalue())
        low, high = rows.select(_last_ms().min().alias("low"), _last_ms().max().alias("high")).row(0)
        return HeldFile(name, rows.height, low, high)

    def _read(self, file: HeldFile) -> pl.DataFrame:
        try:
            content = self.store.get(file.name).bytes()
            panes = pl.read_parquet(io.BytesIO(content))
        except (FileNotFoundError, pl.exceptions.PolarsError) as error:
            raise _damaged(file, error) from None
        if panes.height != file.rows:
            raise _damaged(file, f"it has {panes.height} rows, not {file.rows}")
        return panes


def _damaged(file: HeldFile, problem: object) -> DataRefused:
    reason = str(problem).strip().split("\n")[0]
    return DataRefused(
        f"held panes {file.name} cannot be read ({reason}): restore the checkpoint, or go on with `gridwatch checkpoint"
        " new-generation --from-offsets tables`, which makes the panes again from readings"
    )


def _last_ms() -> pl.Expr:
    return pl.col("last_ts").dt.epoch("ms")
