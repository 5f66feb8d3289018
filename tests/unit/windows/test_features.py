"""Windows: the features equal those of the plain-Python model, and the fleet of a window end is complete."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.tables import BASELINES, METER_WINDOWS
from pipelines.windows.features import features, latest_baselines, sums_of_windows
from pipelines.windows.fleet import complete_fleet
from pipelines.windows.panes import merge_panes, partial_panes
from tests import frames
from tests.factories import NOON_MS, ms, utc
from tests.timelines import as_model, as_row, assert_same_windows, random_readings
from tests.window_model import Reading, model_baseline, model_windows

SEEDS = settings(max_examples=20, deadline=None, database=None, derandomize=True, phases=[Phase.generate])


def windows_of(readings: Sequence[Reading], *, window_s: int, slide_s: int) -> pl.DataFrame:
    """Windows of readings that came in two batches, as rows of meter_windows."""
    rows = frames.readings([as_row(reading) for reading in readings])
    timed = frames.possible(rows).with_columns(event_ms=pl.col("event_ts").dt.epoch("ms"))
    parts = [partial_panes(part, slide_s=slide_s) for part in (timed[::2], timed[1::2])]
    sums = sums_of_windows(merge_panes(pl.concat(parts)), window_s=window_s, slide_s=slide_s)
    return features(sums, window_s=window_s)


def by_key(rows: pl.DataFrame, *names: str) -> dict[Any, dict[str, Any]]:
    """Rows by the value of one or more columns."""
    found = {row[names[0]] if len(names) == 1 else tuple(row[n] for n in names): row for row in rows.to_dicts()}
    assert len(found) == rows.height
    return found


@pytest.mark.parametrize(("window_s", "slide_s", "cadence_s"), [(300, 60, 10), (900, 180, 60)])
@SEEDS
@given(seed=st.integers(0, 2**32 - 1))
def test_features_equal_the_model_in_any_order(window_s: int, slide_s: int, cadence_s: int, seed: int) -> None:
    readings = random_readings(seed, meters=4, cadence_s=cadence_s, seconds=3 * window_s)
    found = windows_of(readings, window_s=window_s, slide_s=slide_s)
    assert found.columns == METER_WINDOWS.column_names
    expected = model_windows(readings, window_s=window_s, slide_s=slide_s)
    assert len(expected) > 40
    assert_same_windows(as_model(found), expected)


def test_window_holds_its_start_and_not_its_end() -> None:
    r"""
            -300 s                          0 s
    window    [==== base ====|== tested ==)
    readings  a                           b
    """
    readings = [Reading("m1", ms(-300), 228.0), Reading("m1", ms(0), 232.0)]
    ends = as_model(windows_of(readings, window_s=300, slide_s=60))
    assert ends["m1", ms(0)]["last_event_ts"] == ms(-300)
    assert ends["m1", ms(60)]["last_event_ts"] == ms(0)
    assert ("m1", ms(-300)) not in ends, "a window does not hold its own end"
    assert len(ends) == 10


def test_tested_part_begins_one_slide_before_the_end() -> None:
    readings = [Reading("m1", ms(-60.001), 228.0), Reading("m1", ms(-60), 232.0)]
    row = as_model(windows_of(readings, window_s=300, slide_s=60))["m1", ms(0)]
    assert (row["base_n"], row["base_mean_v"]) == (1, 228.0)
    assert (row["tested_n"], row["tested_mean_v"]) == (1, 232.0)


def silent(end: float, meter_id: str = "m1", **more: Any) -> dict[str, Any]:
    """A row of meter_windows without topology."""
    return {"meter_id": meter_id, "end": end, **more}


def complete(rows: list[dict[str, Any]], earlier: list[dict[str, Any]], known: Sequence[str] = ()) -> dict[Any, Any]:
    """complete_fleet by (meter, window end)."""
    windows, before = (frames.windows(some, placed=False) for some in (rows, earlier))
    result = complete_fleet(windows, before, pl.Series(known, dtype=pl.String), window_s=300, slide_s=60)
    assert result.columns == METER_WINDOWS.column_names
    return by_key(result, "meter_id", "window_end")


def test_silent_meter_gets_a_row_with_its_last_reading() -> None:
    """m2 spoke at -20 s and had a row at the window end before: it has one with n = 0 at both new ends."""
    rows = complete([silent(60), silent(120)], [silent(0), silent(0, "m2", last=-20)])
    assert set(rows) == {(m, utc(t)) for m in ("m1", "m2") for t in (60, 120)}
    quiet = rows["m2", utc(120)]
    assert (quiet.pop("n"), quiet.pop("last_event_ts")) == (0, utc(-20))
    assert (quiet.pop("window_start"), quiet.pop("window_end"), quiet.pop("window_date")) == (
        utc(-180),
        utc(120),
        utc(0).date(),
    )
    assert quiet.pop("meter_id") == "m2"
    assert set(quiet.values()) == {None}


def test_meter_never_seen_has_no_row() -> None:
    rows = complete([silent(60)], [], known=["m1", "m9"])
    assert set(rows) == {("m1", utc(60))}


def test_meter_has_no_row_before_it_was_first_seen() -> None:
    rows = complete([silent(60), silent(120), silent(120, "new")], [])
    assert set(rows) == {("m1", utc(60)), ("m1", utc(120)), ("new", utc(120))}


def test_meter_that_falls_silent_within_the_batch_keeps_its_last_reading() -> None:
    """
    ends    60      120      180
    m1      spoke   spoke    spoke
    m2      at 50   silent   silent
    """
    rows = complete([silent(60), silent(120), silent(180), silent(60, "m2", last=50)], [])
    assert [rows["m2", utc(t)]["last_event_ts"] for t in (60, 120, 180)] == [utc(50)] * 3
    assert [rows["m2", utc(t)]["n"] for t in (60, 120, 180)] == [30, 0, 0]


@pytest.mark.parametrize(("last", "known", "followed"), [
    (-86_340, False, True), (-86_340.001, False, False), (-86_340.001, True, True),
], ids=["unknown, 24 h", "unknown, longer", "known, longer"])  # fmt: skip
def test_unknown_meter_is_followed_for_a_day_and_a_known_one_for_ever(last: float, known: bool, followed: bool) -> None:
    rows = complete([silent(60)], [silent(0, "m2", n=0, last=last)], known=["m2"] if known else [])
    assert (("m2", utc(60)) in rows) is followed


@SEEDS
@given(seed=st.integers(0, 2**32 - 1))
def test_latest_baseline_equals_the_direct_figures_of_all_in_band_readings(seed: int) -> None:
    readings = random_readings(seed, meters=6, cadence_s=10, seconds=600)
    whole = windows_of(readings, window_s=300, slide_s=60)
    end = NOON_MS + 600_000
    found = latest_baselines(whole.filter(pl.col("window_end") <= utc(600)))
    assert found.columns == BASELINES.column_names
    expected = model_baseline(readings, start_ms=end - 300_000, end_ms=end)
    rows = by_key(found, "meter_id")
    assert set(rows) == set(expected)
    for meter, (n, mean, std) in expected.items():
        row = rows[meter]
        assert (row["n"], row["window_start"], row["window_end"]) == (n, utc(300), utc(600))
        assert (row["mean_v"], row["std_v"]) == pytest.approx((mean, std), abs=1e-6)


def test_baseline_of_one_part_only() -> None:
    """Readings in one part, or a single one, make a baseline; without an in-band reading there is no row."""
    readings = [
        *(Reading("base", ms(-300 + 10 * i), 230.0 + i) for i in range(3)),
        *(Reading("tested", ms(-50 + 10 * i), 230.0 + i) for i in range(3)),
        Reading("one", ms(-5), 229.0),
        Reading("odd", ms(-5), 2300.0, is_plausible=False, is_in_band=False),
    ]
    whole = windows_of(readings, window_s=300, slide_s=60)
    rows = by_key(latest_baselines(whole.filter(pl.col("window_end") == utc(0))), "meter_id")
    assert {m: (r["n"], r["mean_v"], r["std_v"]) for m, r in rows.items()} == {
        "base": (3, 231.0, 1.0), "tested": (3, 231.0, 1.0), "one": (1, 229.0, 0.0),
    }  # fmt: skip


def test_no_readings_make_no_windows() -> None:
    assert windows_of([], window_s=300, slide_s=60).is_empty()
