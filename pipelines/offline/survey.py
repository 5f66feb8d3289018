"""What a file of readings is like: how many, of which meters, when, and how often a meter reports."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from pipelines.errors import SettingsError
from pipelines.offline.files import blocks

METERS_MEASURED = 50
CADENCES_S = (1, 5, 10, 15, 30, 60, 300, 600, 900, 1800, 3600)
"""What meters are set to; one within a hundredth of the measured figure is meant."""
LONGEST_CADENCE_S = 3600.0
_STEP_MS = 10_000
"""Width of the bins in which readings are counted by time."""


@dataclass
class Survey:
    """Readings of a file; `usable` ones have a meter, a time and a finite voltage."""

    count: int = 0
    meters: set[str] = field(default_factory=set)
    usable: set[str] = field(default_factory=set)
    """Meters with a usable reading."""
    by_time: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={"bin": pl.Int64, "len": pl.UInt32}))
    """Usable readings by time: `bin` counts steps of 10 s from the epoch."""
    gap_s: float = math.nan
    """Median of the seconds between two readings of a meter, over some meters; NaN when none has two."""

    def edges_ms(self, slide_s: float, rows: int) -> list[int]:
        """Times (epoch ms, multiples of the slide, ascending) that cut the readings into parts of about `rows`."""
        slide_ms = round(slide_s * 1000)
        part = pl.col("len").cast(pl.Int64).cum_sum() // rows
        cuts = self.by_time.sort("bin").filter(part.diff() > 0)["bin"].to_list()
        return sorted({cut * _STEP_MS // slide_ms * slide_ms for cut in cuts})


def survey(readings: ds.Dataset, path: Path) -> Survey:
    """One pass over the columns that every file has; `path` names the file in errors.

    Raises SettingsError as `blocks` does, for a file without readings, and for one without a usable one.
    """
    found, chosen, measured, counts = Survey(), pa.array([], pa.string()), list[pl.DataFrame](), list[pl.DataFrame]()
    for block in blocks(readings, ("meter_id", "ts", "voltage_v")):
        rows = pl.DataFrame(block)
        found.count += rows.height
        has_meter = pl.col("meter_id").str.len_bytes() > 0
        named = rows.lazy().filter(has_meter).group_by("meter_id").agg(usable=is_usable().any()).collect()
        found.meters.update(named["meter_id"])
        found.usable.update(named.filter("usable")["meter_id"])
        if len(chosen) < METERS_MEASURED:
            both = pa.chunked_array([chosen, *block["meter_id"].chunks], pa.string())
            chosen = both.drop_null().unique()[:METERS_MEASURED]
        of_chosen = pl.Series(chosen.to_pylist(), dtype=pl.String)
        timed = rows.filter(pl.col("ts").is_not_null())
        measured.append(timed.filter(pl.col("meter_id").is_in(of_chosen.implode())).select("meter_id", "ts"))
        steps = timed.filter(is_usable() & has_meter).select(bin=pl.col("ts").dt.epoch("ms") // _STEP_MS)
        counts.append(steps.group_by("bin").len())
        if len(counts) > 100:
            counts = [_added(counts)]
    if not found.count:
        raise SettingsError(f"--readings {path} holds no reading; name one that does")
    if not found.usable:
        raise SettingsError(f"--readings {path}: no reading of {found.count:,} has a meter, time and finite voltage")
    found.by_time = _added(counts)
    gaps = pl.concat(measured).sort("meter_id", "ts").select(gap=pl.col("ts").diff().over("meter_id"))["gap"]
    median = gaps.filter(gaps > gaps.dtype.to_python()()).dt.total_microseconds().median()
    found.gap_s = math.nan if median is None else float(median) / 1e6  # type: ignore[arg-type]
    return found


def is_usable() -> pl.Expr:
    """Whether a row of the columns of `files.SCHEMA` has a time and a finite voltage."""
    return pl.col("ts").is_not_null() & pl.col("voltage_v").is_finite().fill_null(value=False)


def cadence_of(found: Survey, path: Path) -> float:
    """Seconds between two readings of a meter, a whole number from 1 to 3600.

    Raises SettingsError when no meter has two readings, or they lie further apart.
    """
    if math.isnan(found.gap_s):
        raise SettingsError(f"--readings {path}: no meter has two readings; set detection.cadence_s")
    cadence_s = _snapped(found.gap_s)
    if cadence_s > LONGEST_CADENCE_S:
        raise SettingsError(
            f"--readings {path}: a meter's readings lie {cadence_s:,.0f} s apart; the detection takes readings at"
            f" most {LONGEST_CADENCE_S:,.0f} s apart"
        )
    return cadence_s


def _snapped(seconds: float) -> float:
    """A whole number of seconds, and a usual one where it is near.

    >>> _snapped(901.2), _snapped(60.4), _snapped(62.0), _snapped(0.2)
    (900.0, 60.0, 62.0, 1.0)
    """
    whole = max(1.0, float(round(seconds)))
    return next((float(usual) for usual in CADENCES_S if abs(seconds - usual) <= usual / 100), whole)


def _added(counts: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(counts).group_by("bin").agg(pl.col("len").sum())


def part_of(times_ms: pl.Series, edges_ms: list[int]) -> pl.Series:
    """The part of each time: how many of the edges (ascending) lie at it or before."""
    return pl.Series("part", np.searchsorted(np.array(edges_ms, np.int64), times_ms.to_numpy(), side="right"))
