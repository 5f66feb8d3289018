"""Limits by class of meter: every rule of windows and feeders takes those of the row's meter."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.anomalies.limits import RowLimits, limits_of
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Detection, Limits, MeterClass
from pipelines.windows.judge import WindowsJudge
from pipelines.windows.neighbours import compare_with_feeder
from tests import frames
from tests.factories import at, ms, settings
from tests.unit.windows.judged import findings_in

OWN: dict[str, Any] = {
    "undervoltage_pu": [0.95, 0.85, 0.70], "overvoltage_pu": [1.05, 1.15, 1.20], "interruption_pu": 0.2,
    "implausible_pu": 1.3, "plausible_temperature_c": [-10, 140], "over_temperature_c": [95, 110, 130],
    "overcurrent_pu": [0.8, 1.2, 1.5], "fixed_voltage_v": 240.0, "sustained_critical_pu": 0.88,
    "rise_c": 40.0, "noise_pu": 0.05, "min_deviation_pu": 0.06, "alone_deviation_pu": 0.08, "own_load_ohm": 0.0,
}  # fmt: skip
SETTINGS = settings(detection={"classes": {"own": OWN, "same": {}}})
DETECTION = SETTINGS.detection
COMMON = Detection()

NAMES = ("own", "same", "unheard-of", None)


def of_class(rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with the limits of the class that their meter's id begins with, as `attach_meters` adds them."""
    ids = rows["meter_id"].unique().to_list()
    meters = frames.meters([{"meter_id": name, "meter_class": name.partition("|")[0]} for name in ids])
    limits = placed_meters(meters, detection=DETECTION).select("meter_id", pl.col("^limit_.*$"))
    return rows.join(limits, on="meter_id", how="left", maintain_order="left")


def test_the_class_comes_from_the_table_of_meters() -> None:
    meters = frames.meters([{"meter_id": "m1", "meter_class": "own"}, {"meter_id": "m2"}])
    readings = frames.readings([{"meter_id": name, "event_ts": at(0)} for name in ("m1", "m2", "m3")])
    rows = attach_meters(readings, placed_meters(meters, detection=DETECTION), detection=DETECTION)
    assert dict(rows.select("meter_id", "limit_rise_c").rows()) == {"m1": 40.0, "m2": 20.0, "m3": 20.0}


WINDOWS: list[tuple[str, dict[str, Any], set[str], set[str]]] = [
    ("sustained", {"mean_v": 200.0, "min_v": 199.0, "tested_min_v": 199.0, "tested_out_ts": at(-30)},
     {"sustained_undervoltage CRITICAL"},
     {"sustained_undervoltage ERROR"}),
    ("rise", {"min_temperature_c": 20.0, "tested_max_temperature_c": 50.0}, set(), {"temperature_rise WARNING"}),
    ("deviation", {"tested_max_v": 245.0, "max_v": 245.0}, set(), {"voltage_deviation WARNING"}),
]  # fmt: skip


def test_a_window_is_judged_by_the_limits_of_its_class() -> None:
    slides = [
        {**values, "meter_id": f"{name}|{case}", "feeder_id": None, "end": end}
        for case, values, *_ in WINDOWS
        for name in NAMES
        for end in (0, 300)
    ]
    said: dict[str, set[str]] = {f"{name}|{case}": set() for case, *_ in WINDOWS for name in NAMES}
    for found in findings_in(of_class(frames.windows(slides)), [], SETTINGS):
        if found.event_ms == ms(300) and found.finding.severity != "INFO":
            said[found.meter_id].add(f"{found.finding.anomaly_type} {found.finding.severity}")
    for case, _, own, common in WINDOWS:
        assert said[f"own|{case}"] == own, case
        assert [said[f"{name}|{case}"] for name in NAMES[1:]] == [common] * 3, case


def test_a_feeder_counts_each_meter_by_the_limits_of_its_class() -> None:
    low = {"tested_min_v": 215.0, "tested_out_ts": at(-30), "end": 0}
    rows = [{**low, "meter_id": f"{name}|{i}", "feeder_id": f"f-{name}"} for name in ("own", "same") for i in range(4)]
    judge = WindowsJudge(DETECTION, SETTINGS.incidents, frames.meters([]))
    windows = of_class(frames.windows(rows)).with_columns(fleet_awake=1.0)
    (found,) = judge.feeder_events(windows)
    assert (found["feederId"], found["anomalyType"]) == ("f-own", "feeder_undervoltage")
    assert "4 of 4 reporting meters are below the band of their class at once" in found["message"]


def test_a_transformer_is_compared_with_the_residential_meters_behind_it() -> None:
    homes = [{"meter_id": f"m{i}", "end": 0, "tested_mean_v": 230.0, "tested_std_v": 0.46} for i in range(3)]
    large = {"meter_id": "own|t", "end": 0, "nominal_voltage_v": 400.0, "tested_mean_v": 420.0, "tested_std_v": 0.8}
    rows = compare_with_feeder(of_class(frames.windows([*homes, large])), detection=DETECTION).to_dicts()
    found = {row["meter_id"]: row for row in rows}
    assert found["own|t"]["residual_v"] == pytest.approx(20.0)
    assert found["own|t"]["feeder_std_v"] == pytest.approx(0.8)
    assert found["m0"]["residual_v"] == pytest.approx(0.0)


def test_a_meter_without_two_others_to_compare_with_has_no_residual() -> None:
    rows = compare_with_feeder(
        of_class(frames.windows([{"end": 0}, {"end": 0, "meter_id": "m2"}])), detection=DETECTION
    )
    assert rows["residual_v"].null_count() == 2


def test_without_classes_every_limit_is_a_number() -> None:
    limits = limits_of(COMMON)
    for name in RowLimits.__dataclass_fields__:
        value = getattr(limits, name)
        assert all(isinstance(one, float) for one in (value if isinstance(value, tuple) else (value,))), name


def test_every_setting_of_a_class_reaches_the_rules() -> None:
    """A limit that a class may have and no rule takes from it would be a promise that nobody keeps."""
    by_hand = {"fixed_voltage_v": "spike_pu", "nominal_voltage_v": None}
    wanted = {by_hand.get(name, name) for name in Limits.model_fields} - {None}
    assert wanted == set(RowLimits.__dataclass_fields__)
    assert set(MeterClass.model_fields) == {*Limits.model_fields, "rated_current_a"}
