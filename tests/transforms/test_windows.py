"""Windows: Spark's features equal those of the plain-Python model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import DataFrame, SparkSession

from pipelines.sources import empty_table
from pipelines.tables import BASELINES, METER_WINDOWS
from pipelines.transforms.windows import complete_fleet, countable, latest_baselines, summarise_windows
from tests.factories import NOON_MS, at, by, meters_frame, ms, readings_frame, windows_frame
from tests.timelines import as_model, as_row, assert_same_windows, random_readings
from tests.window_model import Reading, model_baseline, model_windows

SEEDS = settings(max_examples=2, deadline=None, database=None, derandomize=True, phases=[Phase.generate])


def frame_of(spark: SparkSession, readings: Sequence[Reading]) -> DataFrame:
    """The readings as rows of the table."""
    return readings_frame(spark, [as_row(reading) for reading in readings])


@pytest.mark.parametrize(("window_s", "slide_s", "cadence_s"), [(300, 60, 10), (900, 180, 60)])
@SEEDS
@given(seed=st.integers(0, 2**32 - 1))
def test_features_equal_the_model_in_any_order(
    spark: SparkSession, window_s: int, slide_s: int, cadence_s: int, seed: int
) -> None:
    readings = random_readings(seed, meters=4, cadence_s=cadence_s, seconds=3 * window_s)
    found = summarise_windows(frame_of(spark, readings), window_s=window_s, slide_s=slide_s)
    assert found.columns == METER_WINDOWS.column_names
    expected = model_windows(readings, window_s=window_s, slide_s=slide_s)
    assert len(expected) > 40
    assert_same_windows(as_model(found.collect()), expected)


def test_window_holds_its_start_and_not_its_end(spark: SparkSession) -> None:
    r"""
            -300 s                          0 s
    window    [==== base ====|== tested ==)
    readings  a                           b
    """
    readings = [Reading("m1", ms(-300), 228.0), Reading("m1", ms(0), 232.0)]
    ends = as_model(summarise_windows(frame_of(spark, readings), window_s=300, slide_s=60).collect())
    assert ends["m1", ms(0)]["last_event_ts"] == ms(-300)
    assert ends["m1", ms(60)]["last_event_ts"] == ms(0)
    assert ("m1", ms(-300)) not in ends, "a window does not hold its own end"
    assert len(ends) == 10


def test_tested_part_begins_one_slide_before_the_end(spark: SparkSession) -> None:
    readings = [Reading("m1", ms(-60.001), 228.0), Reading("m1", ms(-60), 232.0)]
    row = as_model(summarise_windows(frame_of(spark, readings), window_s=300, slide_s=60).collect())["m1", ms(0)]
    assert (row["base_n"], row["base_mean_v"]) == (1, 228.0)
    assert (row["tested_n"], row["tested_mean_v"]) == (1, 232.0)


def test_late_and_resent_readings_are_not_counted(spark: SparkSession) -> None:
    rows = [
        {"event_ts": at(0), "kafka_offset": 0},
        {"event_ts": at(1), "kafka_offset": 1, "is_late": True},
        {"event_ts": at(2), "kafka_offset": 2, "is_resent": True},
        {"event_ts": at(3), "kafka_offset": 3, "is_resent": True, "is_late": True},
    ]
    assert [r["kafka_offset"] for r in countable(readings_frame(spark, rows)).collect()] == [0]


def silent(end: float, meter_id: str = "m1", **more: Any) -> dict[str, Any]:
    """A row of meter_windows without topology."""
    return {"meter_id": meter_id, "end": end, **more}


def complete(
    spark: SparkSession, rows: list[dict[str, Any]], earlier: list[dict[str, Any]], known: Sequence[str] = ()
) -> dict[Any, Any]:
    """complete_fleet by (meter, window end)."""
    meters = meters_frame(spark, [{"meter_id": meter} for meter in known])
    frames = (windows_frame(spark, some, placed=False) for some in (rows, earlier))
    result = complete_fleet(*frames, meters)
    assert result.columns == METER_WINDOWS.column_names
    return by(result.collect(), "meter_id", "window_end")


def test_silent_meter_gets_a_row_with_its_last_reading(spark: SparkSession) -> None:
    """m2 spoke at -20 s and had a row at the window end before: it has one with n = 0 at both new ends."""
    rows = complete(spark, [silent(60), silent(120)], [silent(0), silent(0, "m2", last=-20)])
    assert set(rows) == {(m, at(t)) for m in ("m1", "m2") for t in (60, 120)}
    quiet = rows["m2", at(120)].asDict()
    assert (quiet.pop("n"), quiet.pop("last_event_ts")) == (0, at(-20))
    assert (quiet.pop("window_start"), quiet.pop("window_end"), quiet.pop("window_date")) == (
        at(-180),
        at(120),
        at(0).date(),
    )
    assert quiet.pop("meter_id") == "m2"
    assert set(quiet.values()) == {None}


def test_meter_never_seen_has_no_row(spark: SparkSession) -> None:
    rows = complete(spark, [silent(60)], [], known=["m1", "m9"])
    assert set(rows) == {("m1", at(60))}


def test_meter_has_no_row_before_it_was_first_seen(spark: SparkSession) -> None:
    rows = complete(spark, [silent(60), silent(120), silent(120, "new")], [])
    assert set(rows) == {("m1", at(60)), ("m1", at(120)), ("new", at(120))}


def test_meter_that_falls_silent_within_the_batch_keeps_its_last_reading(spark: SparkSession) -> None:
    """
    ends    60      120      180
    m1      spoke   spoke    spoke
    m2      at 50   silent   silent
    """
    rows = complete(spark, [silent(60), silent(120), silent(180), silent(60, "m2", last=50)], [])
    assert [rows["m2", at(t)]["last_event_ts"] for t in (60, 120, 180)] == [at(50)] * 3
    assert [rows["m2", at(t)]["n"] for t in (60, 120, 180)] == [30, 0, 0]


@pytest.mark.parametrize(("last", "known", "followed"), [
    (-86_340, False, True), (-86_340.001, False, False), (-86_340.001, True, True),
], ids=["unknown, 24 h", "unknown, longer", "known, longer"])  # fmt: skip
def test_unknown_meter_is_followed_for_a_day_and_a_known_one_for_ever(
    spark: SparkSession, last: float, known: bool, followed: bool
) -> None:
    rows = complete(spark, [silent(60)], [silent(0, "m2", n=0, last=last)], known=["m2"] if known else [])
    assert (("m2", at(60)) in rows) is followed


@SEEDS
@given(seed=st.integers(0, 2**32 - 1))
def test_latest_baseline_equals_the_direct_figures_of_all_in_band_readings(spark: SparkSession, seed: int) -> None:
    readings = random_readings(seed, meters=6, cadence_s=10, seconds=600)
    whole = summarise_windows(frame_of(spark, readings), window_s=300, slide_s=60)
    end = NOON_MS + 600_000
    found = latest_baselines(whole.where(f"window_end <= timestamp_millis({end})"))
    assert found.columns == BASELINES.column_names
    expected = model_baseline(readings, start_ms=end - 300_000, end_ms=end)
    rows = by(found.collect(), "meter_id")
    assert set(rows) == set(expected)
    for meter, (n, mean, std) in expected.items():
        row = rows[meter]
        assert (row["n"], row["window_start"], row["window_end"]) == (n, at(300), at(600))
        assert (row["mean_v"], row["std_v"]) == pytest.approx((mean, std), abs=1e-6)


def test_baseline_of_one_part_only(spark: SparkSession) -> None:
    """Readings in one part, or a single one, make a baseline; without an in-band reading there is no row."""
    readings = [
        *(Reading("base", ms(-300 + 10 * i), 230.0 + i) for i in range(3)),
        *(Reading("tested", ms(-50 + 10 * i), 230.0 + i) for i in range(3)),
        Reading("one", ms(-5), 229.0),
        Reading("odd", ms(-5), 2300.0, is_plausible=False, is_in_band=False),
    ]
    whole = summarise_windows(frame_of(spark, readings), window_s=300, slide_s=60)
    rows = by(latest_baselines(whole.where(f"window_end = timestamp_millis({ms(0)})")).collect(), "meter_id")
    assert {m: (r["n"], r["mean_v"], r["std_v"]) for m, r in rows.items()} == {
        "base": (3, 231.0, 1.0), "tested": (3, 231.0, 1.0), "one": (1, 229.0, 0.0),
    }  # fmt: skip


def test_no_readings_make_no_windows(spark: SparkSession) -> None:
    assert summarise_windows(empty_table(spark, "readings"), window_s=300, slide_s=60).collect() == []
