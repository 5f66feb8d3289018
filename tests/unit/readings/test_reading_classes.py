"""Limits by class of meter: every reading rule takes those of the reading's meter; without classes all is as before."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.anomalies.limits import RowLimits, class_limits, limits_of
from pipelines.readings.flags import flag_readings
from pipelines.readings.meters import attach_meters, placed_meters
from pipelines.settings import Detection, Limits
from tests.reading_factories import judged, meters, readings

OWN: dict[str, Any] = {
    "undervoltage_pu": [0.95, 0.85, 0.70], "overvoltage_pu": [1.05, 1.15, 1.20], "interruption_pu": 0.2,
    "implausible_pu": 1.3, "plausible_temperature_c": [-10, 140], "over_temperature_c": [95, 110, 130],
    "overcurrent_pu": [0.8, 1.2, 1.5], "fixed_voltage_v": 240.0, "sustained_critical_pu": 0.88,
    "rise_c": 40.0, "noise_pu": 0.05, "min_deviation_pu": 0.06, "alone_deviation_pu": 0.08, "own_load_ohm": 0.0,
}  # fmt: skip
DETECTION = Detection(classes={"own": OWN, "same": {}})
COMMON = Detection()

Case = tuple[str, dict[str, Any], set[str], set[str]]
CASES: list[Case] = [
    # name, the reading, what is said of a meter of the class, what of one without
    ("its own upper limit", {"voltage_v": 243.0}, {"overvoltage WARNING", "voltage_spike WARNING"}, set()),
    ("its own fixed limit", {"voltage_v": 240.5}, {"voltage_spike INFO"}, set()),
    ("its own lower limit", {"voltage_v": 210.0}, {"undervoltage WARNING"}, set()),
    ("its own interruption", {"voltage_v": 40.0}, {"interruption CRITICAL"}, {"undervoltage CRITICAL"}),
    ("not possible for it", {"voltage_v": 300.0}, {"implausible_value WARNING"},
     {"overvoltage CRITICAL", "voltage_spike WARNING"}),
    ("warmer is usual for it", {"temperature_c": 92.0}, set(), {"over_temperature ERROR"}),
    ("colder is not possible for it", {"temperature_c": -11.0}, {"implausible_value WARNING"}, set()),
    ("its own part of the rated current", {"current_a": 33.0}, {"overcurrent WARNING"}, set()),
    ("its own least deviation", {"voltage_v": 221.0}, set(), {"voltage_deviation INFO"}),
]  # fmt: skip
NAMES = ("own", "same", "unheard-of", None)
METERS = [{"meter_id": f"{name}", "meter_class": name} for name in NAMES]


@pytest.fixture(scope="module")
def said() -> dict[tuple[str | None, int], set[str]]:
    """What the reading rules say, by class and number of the case."""
    rows = [
        {**values, "meter_id": f"{name}", "kafka_offset": number}
        for number, (_, values, *_) in enumerate(CASES)
        for name in NAMES
    ]
    found: dict[tuple[str | None, int], set[str]] = {(name, i): set() for name in NAMES for i in range(len(CASES))}
    known = [{"meter_id": f"{name}"} for name in NAMES]
    for event in judged(rows, of=METERS, known=known, detection=DETECTION):
        name, number = event["meterId"], event["source"]["offset"]
        if not (event["anomalyType"] == "voltage_deviation" and "deviation" not in CASES[number][0]):
            found[None if name == "None" else name, number].add(f"{event['anomalyType']} {event['severity']}")
    return found


@pytest.mark.parametrize("case", range(len(CASES)), ids=[case[0] for case in CASES])
def test_a_reading_is_judged_by_the_limits_of_its_class(said: dict[Any, set[str]], case: int) -> None:
    _, _, own, common = CASES[case]
    assert said["own", case] == own
    assert [said[name, case] for name in NAMES[1:]] == [common] * 3


def placed(rows: list[dict[str, Any]], of: list[dict[str, Any]], detection: Detection = DETECTION) -> pl.DataFrame:
    return attach_meters(readings(rows), placed_meters(meters(of), detection=detection), detection=detection)


def test_what_is_possible_and_in_band_goes_by_the_class() -> None:
    rows = [{"meter_id": f"{name}", "voltage_v": v} for name in NAMES for v in (215.0, 300.0)]
    flagged = flag_readings(placed(rows, METERS), detection=DETECTION)
    found = {(row[0], row[1]): row[2:] for row in flagged.select("meter_id", "voltage_v", *FLAGS).rows()}
    assert (found["own", 215.0], found["own", 300.0]) == ((True, False), (False, False))
    assert all(found[f"{name}", 215.0] == (True, True) for name in NAMES[1:])
    assert all(found[f"{name}", 300.0] == (True, False) for name in NAMES[1:])


FLAGS = ("is_plausible", "is_in_band")


@pytest.mark.parametrize(
    ("reading", "flags"),
    [
        ({}, (True, True)),
        ({"voltage_v": 207.0}, (True, True)),
        ({"voltage_v": 253.0}, (True, True)),
        ({"voltage_v": 253.1}, (True, False)),
        ({"voltage_v": -0.9}, (True, False)),
        ({"voltage_v": -1.0}, (False, False)),
        ({"voltage_v": 345.1}, (False, False)),
        ({"current_a": -0.1}, (False, True)),
        ({"temperature_c": 150.1}, (False, True)),
        ({"current_a": None, "temperature_c": None}, (True, True)),
        ({"current_a": None, "temperature_c": -41.0}, (False, True)),
    ],
)
def test_what_is_null_says_nothing_against_a_reading(reading: dict[str, Any], flags: tuple[bool, bool]) -> None:
    flagged = flag_readings(placed([reading], [{}], COMMON), detection=COMMON)
    assert flagged.select(FLAGS).row(0) == flags


def test_the_class_comes_from_the_table_of_meters() -> None:
    of = [{"meter_id": "m1", "meter_class": "own"}, {"meter_id": "m2"}, {"meter_id": "m4", "meter_class": "gone"}]
    rows = placed([{"meter_id": name} for name in ("m3", "m1", "m2", "m4", "m1")], of)
    assert rows.select("meter_id", "limit_rise_c").rows() == [
        ("m3", 20.0), ("m1", 40.0), ("m2", 20.0), ("m4", 20.0), ("m1", 40.0),
    ]  # fmt: skip


def test_an_unknown_meter_has_the_default_voltage_and_no_place() -> None:
    (row,) = placed([{"meter_id": "m9"}], [{}], Detection(nominal_voltage_v=120.0)).rows(named=True)
    topology = [row[name] for name in ("feeder_id", "phase", "nominal_voltage_v", "rated_current_a")]
    assert topology == [None, None, 120.0, None]


def test_without_classes_there_is_no_column_and_every_limit_is_a_number() -> None:
    assert class_limits(COMMON) == {}
    assert not [name for name in placed_meters(meters([{}]), detection=COMMON).columns if name.startswith("limit_")]
    limits = limits_of(COMMON)
    for name in RowLimits.__dataclass_fields__:
        value = getattr(limits, name)
        assert all(isinstance(one, float) for one in (value if isinstance(value, tuple) else (value,))), name


def test_a_table_of_meters_without_the_column_of_classes_is_enough_where_there_are_none() -> None:
    older = meters([{}]).drop("region", "meter_class")
    assert placed_meters(older, detection=COMMON).height == 1


def test_every_setting_of_a_class_has_a_column_of_limits() -> None:
    by_hand = {"fixed_voltage_v": "spike_pu", "nominal_voltage_v": None}
    wanted = {by_hand.get(name, name) for name in Limits.model_fields} - {None}
    assert wanted == set(RowLimits.__dataclass_fields__)
