"""What is known of a reading's meter: its place in the grid, the limits that apply to it, its latest baseline."""

from __future__ import annotations

import polars as pl

from pipelines.anomalies.limits import class_limits
from pipelines.settings import Detection

TOPOLOGY = ("feeder_id", "phase", "nominal_voltage_v", "rated_current_a")
"""What `attach_meters` adds to a reading, beside the limits in which classes differ."""

BASELINE = {
    "baseline_mean_v": pl.Float64(),
    "baseline_std_v": pl.Float64(),
    "baseline_n": pl.Int64(),
    "baseline_start_ms": pl.Int64(),
    "baseline_end_ms": pl.Int64(),
    "p99_deviation_v": pl.Float64(),
}
"""Columns of a meter's latest closed window; where they are missing, a reading has no baseline."""


def placed_meters(meters: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """The table meters as `attach_meters` takes it.

    In: meter_id, the columns of TOPOLOGY, and meter_class where `detection` has classes.
    Out: one row per meter: meter_id, TOPOLOGY, and one column `limit_*` for each limit in which classes differ. A
    meter without a class, or of a class without settings, has the common limits; one without a nominal voltage the
    common one.
    """
    limits = [
        pl.col("meter_class").replace_strict(limit.by_class, default=limit.common, return_dtype=pl.Float64).alias(name)
        for name, limit in class_limits(detection).items()
    ]
    texts = [pl.col(name).cast(pl.String) for name in ("meter_id", "feeder_id", "phase")]
    numbers = [
        pl.col("nominal_voltage_v").cast(pl.Float64).fill_null(detection.nominal_voltage_v),
        pl.col("rated_current_a").cast(pl.Float64),
    ]
    return meters.select(*texts, *numbers, *limits)


def attach_meters(readings: pl.DataFrame, placed: pl.DataFrame, *, detection: Detection) -> pl.DataFrame:
    """Adds feeder_id, phase, nominal_voltage_v (V) and rated_current_a (A) of the meter, and the limits in which
    classes differ; without classes none. The order of the readings stays.

    `placed` comes from `placed_meters`: its phase is the meter's place, and replaces that of a row. A meter that it
    does not know gets the default nominal voltage, no feeder, no phase, no rated current, and the common limits.
    """
    joined = readings.drop(TOPOLOGY, strict=False).join(placed, on="meter_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col(name).fill_null(value) for name, value in defaults(detection).items())


def defaults(detection: Detection) -> dict[str, float]:
    """What a meter has that is not known, by column; null in all others."""
    common = {name: limit.common for name, limit in class_limits(detection).items()}
    return {"nominal_voltage_v": detection.nominal_voltage_v} | common


def known_meters(placed: pl.DataFrame, baselines: pl.DataFrame | None, *, detection: Detection) -> pl.DataFrame:
    """One row per meter that `placed` (`placed_meters`) or the table baselines knows, then one for all others.

    Out: meter_id (null in the last row), what `attach_meters` adds, and the columns of BASELINE.
    """
    nothing = pl.DataFrame(schema={"meter_id": pl.String(), **BASELINE})
    latest = nothing if baselines is None else baseline_columns(baselines)
    known = placed.join(latest, on="meter_id", how="full", coalesce=True).filter(pl.col("meter_id").is_not_null())
    others = pl.DataFrame({"meter_id": None}, schema={"meter_id": pl.String()})
    common = [pl.col(name).fill_null(value) for name, value in defaults(detection).items()]
    return pl.concat([known, others], how="diagonal").with_columns(common)


def baseline_columns(baselines: pl.DataFrame) -> pl.DataFrame:
    """The table baselines as meter_id and the columns of BASELINE."""
    of_table = {
        "baseline_mean_v": pl.col("mean_v"),
        "baseline_std_v": pl.col("std_v"),
        "baseline_n": pl.col("n"),
        "baseline_start_ms": pl.col("window_start").dt.epoch("ms"),
        "baseline_end_ms": pl.col("window_end").dt.epoch("ms"),
        "p99_deviation_v": pl.col("p99_deviation_v"),
    }
    columns = (of_table[name].cast(kind).alias(name) for name, kind in BASELINE.items())
    return baselines.select(pl.col("meter_id").cast(pl.String), *columns)
