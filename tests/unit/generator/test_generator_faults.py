"""Faults do what their labels say, where and when they say it, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from generator.errors import UsageError
from generator.kinds import ALL, KINDS
from generator.labels import LABEL_COLUMNS
from generator.plan import MINUTE_MS, make_plan
from generator.scenario import build_scenario, plan_run

UN = 230.0
SEES = {
    "sag": lambda f, rated: f.voltage_v.between(0.1 * UN, 0.8999 * UN),
    "swell": lambda f, rated: f.voltage_v.between(1.1001 * UN, 1.5 * UN),
    "spike": lambda f, rated: f.voltage_v.between(255, 275),
    "interruption": lambda f, rated: (f.voltage_v < 0.1 * UN) & (f.current_a == 0),
    "glitch": lambda f, rated: (f.voltage_v < 0) | (f.voltage_v > 1.5 * UN),
    "unit_x10": lambda f, rated: f.voltage_v > 9 * UN,
    "failure_status": lambda f, rated: f.status.str.upper().str.contains("FAILURE"),
    "over_temperature": lambda f, rated: f.temperature_c > 75,
    "overcurrent": lambda f, rated: f.current_a > rated,
    "feeder_sag": lambda f, rated: f.voltage_v.between(0.1 * UN, 0.8999 * UN),
    "feeder_swell": lambda f, rated: f.voltage_v.between(1.1001 * UN, 1.5 * UN),
    "feeder_outage": lambda f, rated: f.voltage_v < 0.1 * UN,
}


@pytest.fixture(scope="module")
def all_kinds():
    """Ten days of 120 meters at five minutes: every kind, drift too."""
    plan = make_plan(1_772_366_400_000, paced=False, meters=120, cadence_s=300.0, seconds=10 * 86_400, faults="all")
    return build_scenario(plan)


def _of(readings: pd.DataFrame, fault, network) -> pd.DataFrame:
    inside = readings.ts.between(fault.start_ms, fault.end_ms, inclusive="left")
    if fault.meter >= 0:
        return readings[inside & (readings.meter == fault.meter)]
    phases = readings.meter.map(dict(enumerate(network.phase)))
    return readings[
        inside & (network.feeder[readings.meter] == fault.feeder) & ((phases == fault.phase) | (not fault.phase))
    ]


def test_every_kind_can_be_scheduled(all_kinds):
    assert {fault.kind for fault in all_kinds.faults} == set(ALL)
    assert all_kinds.dropped == ()


@pytest.mark.parametrize("kind", sorted(SEES))
def test_every_reading_inside_the_label_shows_the_fault(demo, frame, kind):
    readings = frame(demo)
    faults = [fault for fault in demo.faults if fault.kind == kind]
    assert faults
    for fault in faults:
        rows = _of(readings, fault, demo.network)
        assert len(rows) == 1 if KINDS[kind].single else len(rows) > 3
        assert SEES[kind](rows, demo.network.rated_current_a[rows.meter]).all()


@pytest.mark.parametrize("scenario_name", ["demo", "all_kinds"])
def test_outside_the_labels_nothing_differs_from_a_run_without_faults(request, frame, scenario_name):
    scenario = request.getfixturevalue(scenario_name)
    clean = frame(replace(scenario, faults=())).set_index(["meter", "poll"])
    faulty = frame(scenario).set_index(["meter", "poll"])
    labelled = pd.concat([_of(clean.reset_index(), f, scenario.network) for f in scenario.faults])
    untouched = clean.drop(pd.MultiIndex.from_frame(labelled[["meter", "poll"]]).unique())
    pd.testing.assert_frame_equal(faulty.loc[untouched.index], untouched)
    silent = [fault for fault in scenario.faults if fault.kind == "silent"]
    missing = clean.index.difference(faulty.index)
    assert len(missing) == sum(len(_of(clean.reset_index(), f, scenario.network)) for f in silent)
    assert len(missing) > 0


def test_a_stuck_voltage_stays_while_current_goes_on(demo, frame):
    for fault in (f for f in demo.faults if f.kind == "stuck"):
        rows = _of(frame(demo), fault, demo.network)
        assert rows.voltage_v.nunique() == 1
        assert rows.current_a.nunique() > 2


def test_steps_and_drifts_stay_inside_the_band_and_move_as_far_as_the_label_says(all_kinds, frame):
    clean, readings = frame(replace(all_kinds, faults=())), frame(all_kinds)
    for fault in (f for f in all_kinds.faults if f.kind in ("step", "drift")):
        before, after = (_of(r, fault, all_kinds.network).voltage_v for r in (clean, readings))
        last = after.iloc[-1] - before.iloc[-1]
        assert last == pytest.approx(fault.magnitude * UN, abs=0.11)
        assert after.between(0.9 * UN, 1.1 * UN).all()


def test_a_noisy_meter_scatters_more_than_one_percent_of_nominal(demo, frame):
    for fault in (f for f in demo.faults if f.kind == "noisy"):
        voltage = _of(frame(demo), fault, demo.network).voltage_v
        assert voltage.diff().std() / 2**0.5 > 0.012 * UN
        assert voltage.between(0.9 * UN, 1.1 * UN).all()


def test_a_rising_temperature_rises_twenty_degrees_in_a_quarter_of_an_hour_and_stays_legal(demo, frame):
    for fault in (f for f in demo.faults if f.kind == "temperature_rise"):
        rows = _of(frame(demo), fault, demo.network)
        soon = rows[rows.ts < fault.start_ms + 15 * MINUTE_MS].temperature_c
        assert soon.max() - soon.iloc[0] > 20
        assert soon.max() < 75


def test_some_sags_deepen_so_that_their_severity_rises(demo):
    staircase = [fault.levels for fault in demo.faults if fault.kind == "sag" and len(fault.levels) == 3]
    assert staircase == [(0.87, 0.80, 0.65)]


def _assert_demo_schedule(scenario) -> None:
    plan, network = scenario.plan, scenario.network
    start, last_end = plan.start_ms, plan.data_end_ms - 2 * MINUTE_MS
    meters = [fault.meter for fault in scenario.faults if fault.meter >= 0]
    feeders_hit = {fault.feeder for fault in scenario.faults if fault.meter < 0}
    assert scenario.dropped == ()
    assert {fault.kind for fault in scenario.faults} == set(ALL) - {"drift"}
    assert len(set(meters)) == len(meters)
    assert not feeders_hit & {fault.feeder for fault in scenario.faults if fault.meter >= 0}
    assert all(network.feeder[fault.meter] == fault.feeder for fault in scenario.faults if fault.meter >= 0)
    for fault in scenario.faults:
        assert fault.end_ms <= last_end
        assert fault.kind == "silent" or fault.start_ms >= start + 7 * MINUTE_MS
        if fault.kind == "stuck":
            assert fault.start_ms >= start + 16 * MINUTE_MS
            assert fault.end_ms - fault.start_ms >= 18 * MINUTE_MS
    silences = sorted((f.end_ms - f.start_ms, f.start_ms - start) for f in scenario.faults if f.kind == "silent")
    assert 11 * MINUTE_MS < silences[0][0] < 13 * MINUTE_MS
    assert silences[1][0] > 33 * MINUTE_MS
    assert 8 * plan.cadence_ms <= silences[1][1] <= 3 * MINUTE_MS
    assert any(
        f.kind == "sag" and f.end_ms - f.start_ms >= 12 * MINUTE_MS and 0.85 <= f.magnitude <= 0.88
        for f in scenario.faults
    )


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), meters=st.sampled_from([300, 500, 1000]))
def test_the_demo_schedule_keeps_its_rules_for_any_seed(seed, meters):
    plan = make_plan(1_772_366_400_000, paced=True, meters=meters, rate=4.0 * meters, seed=seed)
    _assert_demo_schedule(build_scenario(plan))


def test_like_faults_at_once_on_one_feeder_are_too_few_to_look_like_a_feeder_event(demo):
    for fault in demo.faults:
        crowd = KINDS[fault.kind].crowd
        alike = [
            other
            for other in demo.faults
            if crowd and KINDS[other.kind].crowd == crowd and other.feeder == fault.feeder
            and other.start_ms <= fault.start_ms < other.end_ms
        ]  # fmt: skip
        assert len(alike) <= 2


def test_faults_of_one_meter_are_far_enough_apart_for_separate_incidents(make):
    plan = make(paced=False, meters=60, seconds=2 * 86_400, faults="sag,swell,stuck,silent", faults_per_meter_day=3.0)
    scenario = build_scenario(plan)
    by_meter: dict[int, list] = {}
    for fault in scenario.faults:
        by_meter.setdefault(fault.meter, []).append(fault)
    gaps = [b.start_ms - a.end_ms for faults in by_meter.values() for a, b in pairwise(faults)]
    assert len(scenario.faults) > 250
    assert min(gaps) >= 20 * MINUTE_MS


def test_what_does_not_fit_a_short_run_is_left_out_and_named(make):
    scenario = build_scenario(make(seconds=20.0, rate=2000.0))
    kinds = {fault.kind for fault in scenario.faults}
    assert "sag" in kinds
    assert not kinds & {"stuck", "noisy"}
    assert "2 x stuck left out: it needs 37 min of data, the run has 13.3" in scenario.dropped


def test_labels_have_their_columns_and_name_known_rules(demo):
    fleet, labels = plan_run(demo.plan)
    assert tuple(labels.columns) == LABEL_COLUMNS
    assert labels.fault_id.is_unique
    assert labels.start.str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z").all()
    assert set(labels[labels.scope == "meter"].meter_id) <= set(fleet.meter_id)
    assert set(labels.feeder_id) <= set(fleet.feeder_id)
    assert (labels.expected_types.str.len() > 0).all()


def test_planning_twice_gives_the_same_labels(demo):
    pd.testing.assert_frame_equal(plan_run(demo.plan)[1], plan_run(demo.plan)[1])


@pytest.mark.parametrize("faults", ["sagg", "sag,", "demo,sag"])
def test_an_unknown_fault_is_refused_with_the_names_allowed(make, faults):
    with pytest.raises(UsageError, match=r"--faults: got .*allowed: none, demo, all"):
        build_scenario(make(faults=faults))


def test_a_number_of_faults_contradicts_the_fixed_demo(make):
    with pytest.raises(UsageError, match="--faults-per-meter-day"):
        build_scenario(make(faults="demo", faults_per_meter_day=1.0))
