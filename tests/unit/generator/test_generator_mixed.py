"""A mixed fleet: three classes of meters in two regions, each healthy and faulty in units of its own."""

from __future__ import annotations

import numpy as np
import pytest

from generator.errors import UsageError
from generator.fleet import FLEET_COLUMNS, SITE_COLUMNS, mixed_fleet
from generator.plan import make_plan
from generator.scenario import build_scenario, plan_run

VOLTS = {"residential-230": 230.0, "residential-120": 120.0, "transformer": 400.0}
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def mixed():
    start_ms = 1_772_000_000_000
    options = {"meters": 120, "meters_per_feeder": 6, "fleet": "mixed", "faults": "all", "faults_per_meter_day": 12.0}
    return build_scenario(make_plan(0, paced=False, start_ms=start_ms, end_ms=start_ms + 2 * HOUR_MS, **options))


@pytest.fixture(scope="module")
def nominal(mixed):
    return mixed.fleet.nominal_voltage_v.to_numpy()


def test_every_feeder_is_of_one_region_and_every_transformer_in_europe_has_a_meter():
    fleet = mixed_fleet(400, seed=3)
    assert list(fleet.columns) == [*FLEET_COLUMNS, *SITE_COLUMNS]
    assert (fleet.groupby("feeder_id").region.nunique() == 1).all()
    assert (fleet.meter_class.map(VOLTS) == fleet.nominal_voltage_v).all()
    large = fleet[fleet.meter_class == "transformer"]
    assert set(large.region) == {"europe"}
    assert set(large.transformer_id) == set(fleet[fleet.region == "europe"].transformer_id)
    assert large.transformer_id.is_unique
    assert set(large.phase) == {""}
    assert large.rated_current_a.isin([400.0, 630.0]).all()
    assert fleet[fleet.region == "america"].meter_class.eq("residential-120").all()


def test_healthy_meters_of_every_class_stay_in_band_and_below_their_rated_current(mixed, nominal, frame):
    rows = frame(mixed)
    healthy = rows[~readings_with_faults(mixed, rows)]
    per_unit = healthy.voltage_v / nominal[healthy.meter]
    assert per_unit.between(0.93, 1.07).all()
    assert (healthy.current_a < mixed.network.rated_current_a[healthy.meter]).all()
    large = mixed.network.is_transformer[healthy.meter]
    assert healthy.current_a[large].min() > 40
    assert healthy.temperature_c[large].between(30, 60).all()
    assert healthy.temperature_c[~large].between(0, 40).all()


def readings_with_faults(mixed, rows):
    faulty = np.zeros(len(rows), dtype=bool)
    for fault in mixed.faults:
        inside = (rows.ts >= fault.start_ms) & (rows.ts < fault.end_ms)
        if fault.meter >= 0:
            faulty |= inside & (rows.meter == fault.meter)
        else:
            faulty |= inside & (mixed.network.feeder[rows.meter] == fault.feeder)
    return faulty


@pytest.mark.parametrize(("kind", "low", "high"), [("sag", 0.55, 0.92), ("swell", 1.10, 1.28), ("spike", 1.10, 1.21)])
def test_a_fault_is_as_large_in_units_of_the_meter_s_own_voltage(mixed, nominal, frame, kind, low, high):
    rows, classes = frame(mixed), set()
    for fault in (fault for fault in mixed.faults if fault.kind == kind):
        mine = rows[(rows.meter == fault.meter) & (rows.ts >= fault.start_ms) & (rows.ts < fault.end_ms)]
        assert (mine.voltage_v / nominal[fault.meter]).between(low, high).all()
        classes.add(mixed.fleet.meter_class[fault.meter])
    assert len(classes) >= 2


def test_a_uniform_fleet_has_the_columns_it_always_had(make):
    fleet, _ = plan_run(make(meters=20))
    assert list(fleet.columns) == list(FLEET_COLUMNS)


@pytest.mark.parametrize(
    ("options", "what"),
    [({"fleet": "odd"}, "--fleet: got odd; allowed: uniform, mixed"),
     ({"fleet": "mixed", "nominal_voltage_v": 120.0}, "--nominal-voltage: got 120 V with --fleet mixed")],
)  # fmt: skip
def test_what_a_mixed_fleet_cannot_be_is_refused(make, options, what):
    with pytest.raises(UsageError, match=what):
        make(**options)
