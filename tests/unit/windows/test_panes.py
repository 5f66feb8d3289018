"""Panes in Polars: exact, whatever parts they are merged from, and null where there is nothing."""

from __future__ import annotations

import random
from typing import Any

import polars as pl
import pytest

from pipelines.small_tables import arrow_schema
from pipelines.tables import PANES
from pipelines.windows.panes import FIGURES, MIDDLE_V, empty_panes, merge_panes, partial_panes
from tests import frames
from tests.factories import NOON_MS
from tests.timelines import random_readings
from tests.window_model import Reading


def frame(readings: list[Reading]) -> pl.DataFrame:
    """Countable readings as the archive's workers hold them."""
    rows = pl.DataFrame(
        [vars(reading) for reading in readings],
        schema={
            "meter_id": pl.String, "event_ms": pl.Int64, "voltage_v": pl.Float64, "current_a": pl.Float64,
            "temperature_c": pl.Float64, "is_plausible": pl.Boolean, "is_in_band": pl.Boolean,
        },
    )  # fmt: skip
    return frames.possible(rows)


def by_pane(panes: pl.DataFrame) -> dict[tuple[str, int], dict[str, Any]]:
    """Figures by meter and start of the pane in ms; times as epoch ms."""
    times = panes.with_columns(pl.col(pl.Datetime).dt.epoch("ms"))
    return {(row["meter_id"], row["pane_start"]): row for row in times.to_dicts()}


def model(readings: list[Reading]) -> dict[str, Any]:
    """The figures of one pane from their definitions, in plain Python."""
    volts = {name: [r.voltage_v for r in readings if getattr(r, f"is_{name}")] for name in ("in_band", "plausible")}
    good = [r for r in readings if r.is_plausible]
    currents = [r.current_a for r in readings if r.is_in_band and r.current_a is not None]
    amps = [r.current_a for r in good if r.current_a is not None]
    degrees = [r.temperature_c for r in good if r.temperature_c is not None]
    figures: dict[str, Any] = {"n": len(readings), "last_ts": max(r.event_ms for r in readings)}
    for name, values in volts.items():
        apart = [value - MIDDLE_V for value in values]
        figures[f"{name}_n"] = len(values)
        figures[f"{name}_sum"] = sum(apart) if values else None
        figures[f"{name}_squares"] = sum(d * d for d in apart) if values else None
    figures["in_band_current_n"] = len(currents)
    figures["in_band_current_sum"] = sum(currents) if currents else None
    figures["out_ts"] = min((r.event_ms for r in good if not r.is_in_band), default=None)
    for low, high, values in (
        ("least_v", "most_v", volts["plausible"]), ("least_a", "most_a", amps), ("least_c", "most_c", degrees)
    ):  # fmt: skip
        figures[low], figures[high] = min(values, default=None), max(values, default=None)
    return figures


def with_gaps(seed: int) -> list[Reading]:
    """A random fleet in which some meters have no current, some no temperature."""
    rng = random.Random(seed)
    found = []
    for reading in random_readings(seed, meters=5, cadence_s=10, seconds=400):
        values = vars(reading) | {name: None for name in ("current_a", "temperature_c") if rng.random() < 0.3}
        found.append(Reading(**values))
    return found


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("slide_s", [60, 7.5])
def test_panes_merged_from_any_parts_equal_the_definitions(seed: int, slide_s: float) -> None:
    readings, rng = with_gaps(seed), random.Random(seed)
    parts: list[list[Reading]] = [[] for _ in range(4)]
    for reading in readings:
        rng.choice(parts).append(reading)
    once = merge_panes(pl.concat([empty_panes(), *(partial_panes(frame(part), slide_s=slide_s) for part in parts)]))
    twice = merge_panes(pl.concat([once.filter(pl.col("n") > 2), once.filter(pl.col("n") <= 2)]))
    members: dict[tuple[str, int], list[Reading]] = {}
    for reading in readings:
        start = reading.event_ms // round(slide_s * 1000) * round(slide_s * 1000)
        members.setdefault((reading.meter_id, start), []).append(reading)
    found = by_pane(twice)
    assert found.keys() == members.keys()
    for key, rows in members.items():
        expected = model(rows) | {"meter_id": key[0], "phase": None, "pane_start": key[1]}
        assert found[key] == pytest.approx(expected, abs=1e-9)


def test_figures_of_nothing_are_null_and_counts_are_0() -> None:
    """Polars alone would say 0.0 of a sum of nothing."""
    odd = [Reading("m", NOON_MS, 2300.0, is_plausible=False, is_in_band=False)]
    for panes in (partial_panes(frame(odd), slide_s=60), merge_panes(partial_panes(frame(odd * 2), slide_s=60))):
        row = panes.to_dicts()[0]
        counts = {f.name for f in FIGURES if f.aggregate == "count"} - {"n"}
        assert {row[name] for name in counts} == {0}
        assert {row[f.name] for f in FIGURES if f.name not in counts | {"n", "last_ts"}} == {None}


def test_a_reading_at_the_edge_belongs_to_the_pane_that_begins_there() -> None:
    edges = [Reading("m", NOON_MS - 1, 230.0), Reading("m", NOON_MS, 231.0), Reading("m", NOON_MS + 59_999, 232.0)]
    found = by_pane(partial_panes(frame(edges), slide_s=60))
    assert {start: row["n"] for (_, start), row in found.items()} == {NOON_MS - 60_000: 1, NOON_MS: 2}


def test_panes_have_the_columns_and_types_of_their_table() -> None:
    expected = [
        (field.name, field.type) for field in arrow_schema(PANES) if field.name not in ("generation", "batch_id")
    ]
    made = partial_panes(frame([Reading("m", NOON_MS, 230.0)]), slide_s=60)
    for panes in (made, partial_panes(frame([]), slide_s=60), empty_panes(), merge_panes(empty_panes())):
        assert panes.schema == empty_panes().schema
    stored = made.to_arrow(compat_level=pl.CompatLevel.oldest())
    assert [field.name for field in stored.schema] == [name for name, _ in expected]
    stored.cast(arrow_schema(PANES).remove(0).remove(0))
