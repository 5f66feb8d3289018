"""Clocks, plans and usage errors are settled before anything is sent."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from generator.errors import UsageError
from generator.plan import check_clock, make_plan, plan_to_json, read_plan

NOW_MS = 1_772_366_412_345


def test_a_fast_run_ends_two_to_three_minutes_before_the_run_does_on_a_full_minute():
    plan = make_plan(NOW_MS, paced=True, meters=500, rate=2000.0, seconds=60)
    behind_s = (NOW_MS + 60_000 - plan.data_end_ms) / 1000
    assert plan.speed == 40
    assert plan.data_end_ms % 60_000 == 0
    assert 120 <= behind_s <= 180
    assert plan.data_end_ms - plan.start_ms == 2_400_000
    assert plan.closing_end_ms - plan.data_end_ms == 30_000


def test_a_live_run_shows_the_wall_clock():
    plan = make_plan(NOW_MS, paced=True, meters=500, seconds=60)
    assert plan.rate == 50
    assert plan.start_ms == NOW_MS
    assert plan.data_end_ms == NOW_MS + 60_000


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    meters=st.integers(1, 5000), rate=st.floats(0.5, 20_000), seconds=st.floats(1, 4000),
    cadence_s=st.sampled_from([1.0, 10.0, 60.0, 900.0]), watermark_s=st.floats(1, 400),
)  # fmt: skip
def test_no_derived_plan_is_ever_ahead_of_the_wall_clock(meters, rate, seconds, cadence_s, watermark_s):
    assume(rate * cadence_s / meters * seconds < 10 * 365 * 86_400)
    plan = make_plan(
        NOW_MS,
        paced=True,
        meters=meters,
        rate=rate,
        seconds=seconds,
        cadence_s=cadence_s,
        watermark_s=watermark_s,
    )
    check_clock(plan, NOW_MS)
    check_clock(plan, NOW_MS + 5_000)


def test_given_start_and_end_fix_the_times():
    start, end = 1_772_000_000_000, 1_772_003_600_000
    by_start = make_plan(NOW_MS, paced=False, rate=2000.0, seconds=90, start_ms=start)
    by_end = make_plan(NOW_MS, paced=False, rate=2000.0, seconds=90, end_ms=end)
    by_both = make_plan(NOW_MS, paced=False, rate=2000.0, start_ms=start, end_ms=end)
    assert by_start == by_end == by_both
    assert by_both.seconds == 90


def test_a_run_to_files_is_in_the_past():
    plan = make_plan(NOW_MS, paced=False, meters=10, seconds=86_400)
    assert plan.closing_end_ms < NOW_MS


def test_a_plan_survives_its_file(tmp_path):
    plan = make_plan(NOW_MS, paced=True, rate=2000.0, faults="sag,swell", faults_per_meter_day=0.5)
    file = tmp_path / "plan.json"
    file.write_text(plan_to_json(plan))
    assert read_plan(file) == plan


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"options": {"meters": 3}}', '{"options": {"metres": 3}}'])
def test_a_file_that_is_no_plan_is_refused_in_one_line(tmp_path, text):
    file = tmp_path / "plan.json"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"--plan: got .*write one with --plan-only") as caught:
        read_plan(file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"meters": 0}, "--meters"),
        ({"cadence_s": 0.0}, "--cadence"),
        ({"rate": -1.0}, "--rate"),
        ({"seconds": 0.0}, "--seconds"),
        ({"seed": -1}, "--seed"),
        ({"grid": "soft"}, "--grid"),
        ({"watermark_s": 0.0}, "--watermark"),
        ({"watermark_s": 80.0, "late_by_s": 80.0}, "--late-by"),
        ({"late_share": 0.5}, "--late-share"),
        ({"nominal_voltage_v": 5.0}, "--nominal-voltage"),
        ({"faults_per_meter_day": 0.0}, "--faults-per-meter-day"),
        ({"start_ms": 2_000_000_000_000, "end_ms": 1_900_000_000_000}, "--end"),
        ({"start_ms": 1_772_000_000_000, "end_ms": 1_772_003_600_000, "seconds": 7.0}, "--seconds"),
    ],
)
def test_an_illegal_option_is_named_with_its_value_and_what_is_allowed(options, what):
    with pytest.raises(UsageError, match=rf"^{what}: got .*; allowed: .*; "):
        make_plan(NOW_MS, paced=False, **options)


def test_a_start_in_the_future_is_refused_for_a_paced_run():
    plan = make_plan(NOW_MS, paced=True, start_ms=NOW_MS + 60_000, rate=2000.0)
    with pytest.raises(UsageError, match="ahead of the wall clock"):
        check_clock(plan, NOW_MS)
