"""Healthy meters behave like healthy meters, and always the same way."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from generator.draws import normal, uniform
from generator.fleet import FLEET_COLUMNS, build_fleet, write_fleet
from generator.load import build_network
from generator.polls import delivered, poll_times
from generator.scenario import blocks, build_scenario, readings_between


@pytest.fixture(scope="module")
def day():
    """A day without faults: 100 meters, two feeders, a reading a minute."""
    from generator.plan import make_plan

    plan = make_plan(1_772_366_400_000, paced=False, meters=100, cadence_s=60.0, seconds=86_400, faults="none")
    return build_scenario(plan)


@pytest.fixture(scope="module")
def day_readings(day):
    block = readings_between(day, day.plan.start_ms, day.plan.closing_end_ms)
    return pd.DataFrame({name: getattr(block, name) for name in block.__dataclass_fields__})


def test_a_draw_depends_on_its_address_and_not_on_the_company_it_keeps():
    alone = uniform(7, np.array([41]), np.array([5]))
    among_many = uniform(7, np.arange(100)[:, None], np.arange(10)[None, :])
    assert among_many[41, 5] == alone[0]
    assert uniform(8, np.array([41]), np.array([5]))[0] != alone[0]


def test_normal_draws_have_unit_spread_and_never_leave_their_bounds():
    draws = normal(3, np.arange(200_000))
    assert abs(draws.mean()) < 0.01
    assert abs(draws.std() - 1.0) < 0.01
    assert np.abs(draws).max() <= 2 * 3**0.5


def test_the_fleet_has_unique_meters_on_feeders_of_about_fifty(tmp_path):
    fleet = build_fleet(1230, seed=3)
    sizes = fleet.groupby("feeder_id").size()
    assert tuple(fleet.columns) == FLEET_COLUMNS
    assert fleet.meter_id.is_unique
    assert sizes.between(45, 55).all()
    assert fleet.groupby("transformer_id").size().max() <= 25
    assert set(fleet.phase) == {"A", "B", "C"}
    assert fleet.rated_current_a.between(60, 100).all()
    write_fleet(fleet, tmp_path / "fleet.csv")
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "fleet.csv"), fleet)


def test_healthy_readings_stay_inside_the_band_below_rated_current_and_at_sane_temperatures(day, day_readings):
    rated = day.network.rated_current_a[day_readings.meter]
    assert day_readings.voltage_v.between(0.90 * 230, 1.0869 * 230).all()
    assert (day_readings.current_a > 0).all()
    assert (day_readings.current_a < rated).all()
    assert day_readings.temperature_c.between(-10, 60).all()
    assert not day_readings.faulty.any()


def test_readings_have_the_resolution_of_the_meter(day_readings):
    tenths = day_readings.voltage_v * 10
    assert np.allclose(tenths, tenths.round(), atol=1e-6)
    assert day_readings.voltage_v.map(repr).str.len().max() <= 5


def test_meters_of_one_feeder_correlate_about_nine_tenths_over_a_day(day, day_readings):
    minute = (day_readings.ts - day.plan.start_ms) // 60_000
    wide = day_readings.pivot_table(index=minute, columns="meter", values="voltage_v").ffill().bfill()
    pairs = wide.iloc[:, :50].corr().to_numpy()[np.triu_indices(50, 1)]
    assert 0.85 <= np.median(pairs) <= 0.95


def test_a_healthy_voltage_hardly_ever_jumps_three_percent_within_minutes(day_readings):
    wide = day_readings.pivot_table(index="poll", columns="meter", values="voltage_v")
    jump = (wide - wide.rolling(4, min_periods=3).mean().shift(1)).abs()
    assert (jump > 0.03 * 230).to_numpy().sum() <= 0.05 * wide.shape[1]


def test_polls_are_skipped_as_often_as_on_real_meters_and_never_long_enough_for_silence(day):
    meter = np.repeat(np.arange(100), 3000)
    poll = np.tile(np.arange(3000), 100)
    kept = delivered(day.plan, meter, poll)
    assert 0.033 < 1 - kept.mean() < 0.039
    longest = max(np.diff(poll[kept & (meter == m)]).max() for m in range(100))
    assert longest == 3


def test_poll_times_grow_with_the_poll_and_never_come_before_the_start(day):
    times = poll_times(day.plan, np.repeat(np.arange(50), 100), np.tile(np.arange(100), 50)).reshape(50, 100)
    gaps = np.diff(times, axis=1) / day.plan.cadence_ms
    assert times.min() >= day.plan.start_ms
    assert gaps.min() > 0.9
    assert gaps.max() < 1.1


@pytest.mark.parametrize("block_ms", [5_000, 7_777, 60_000, 3_600_000])
def test_the_same_readings_come_out_however_time_is_cut(make, frame, block_ms):
    scenario = build_scenario(make(meters=120, rate=480.0, seconds=60, faults="demo"))
    whole = frame(scenario)
    pieces = [frame(scenario, block) for _, block in blocks(scenario, block_ms)]
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), whole)


def test_another_seed_gives_other_readings(make, frame):
    one = frame(build_scenario(make(meters=20, seed=1, start_ms=1_772_000_000_000)))
    two = frame(build_scenario(make(meters=20, seed=2, start_ms=1_772_000_000_000)))
    assert one.voltage_v.head(50).tolist() != two.voltage_v.head(50).tolist()


@pytest.mark.parametrize(("grid", "low", "high"), [("strong", 0.1, 0.4), ("mixed", 0.1, 0.9), ("weak", 0.4, 0.9)])
def test_the_grid_option_bounds_the_line_impedance(make, grid, low, high):
    plan = make(meters=300, grid=grid)
    impedance = build_network(plan, build_fleet(300, plan.seed)).impedance_ohm
    assert low <= impedance.min() < low + 0.05
    assert high - 0.05 < impedance.max() <= high


def test_all_voltages_scale_with_the_nominal_voltage(make, frame):
    options = {"meters": 50, "faults": "none", "start_ms": 1_772_000_000_000}
    at_230 = frame(build_scenario(make(**options))).voltage_v
    at_120 = frame(build_scenario(make(**options, nominal_voltage_v=120.0))).voltage_v
    assert np.allclose(at_120 / 120, at_230 / 230, atol=0.002)
