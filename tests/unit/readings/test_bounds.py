"""Bounds: inside them no rule fires, whatever settings, classes and baselines there are; and little else is outside."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from typing import Any

import polars as pl
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from pipelines.readings.judge import ReadingJudge
from pipelines.settings import Detection
from tests.reading_factories import NOON_MS, at, baselines, meters, ms, readings

END_S = -10
MAX_AGE_S = 600


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high, allow_nan=False, exclude_min=True, exclude_max=True)


def rising(low: float, high: float, count: int = 3) -> st.SearchStrategy[list[float]]:
    return st.lists(between(low, high), min_size=count, max_size=count, unique=True).map(sorted)


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "fixed_voltage_v": between(1, 1000),
        "min_deviation_pu": between(0, 0.5),
        "interruption_pu": between(0, 0.3),
        "undervoltage_pu": rising(0.3, 1.0).map(lambda limits: limits[::-1]),
        "overvoltage_pu": rising(1.0, 1.2),
        "implausible_pu": between(1.2, 10),
        "plausible_temperature_c": rising(-300, 300, 2),
        "over_temperature_c": rising(-300, 300),
        "overcurrent_pu": rising(0, 10),
    },
)
DETECTION = st.builds(
    lambda common, **more: Detection(**common, **more),
    st.one_of(st.just({}), LIMITS),
    classes=st.fixed_dictionaries({}, optional={"a": LIMITS, "b": LIMITS}),
    nominal_voltage_v=st.one_of(st.just(230.0), between(50, 1000)),
    sigma=between(1.5, 4),
    std_floor_pu=between(0, 0.1),
    profile_factor=between(1, 10),
    zero_tolerance_pu=st.floats(0, 0.05),
    min_history=st.integers(3, 20),
)
METERS = st.lists(
    st.fixed_dictionaries(
        {
            "meter_class": st.sampled_from(["a", "b", "unheard-of", None]),
            "nominal_voltage_v": st.one_of(st.just(230.0), st.none(), between(50, 1e6)),
            "rated_current_a": st.one_of(st.none(), between(0.1, 1e5)),
        }
    ),
    min_size=1,
    max_size=3,
)
BASELINE = st.fixed_dictionaries(
    {
        "mean_v": st.one_of(between(225, 235), between(225, 235), between(-10, 1000), between(-1e7, 1e7), st.none()),
        "std_v": st.one_of(between(0, 2), between(0, 2), between(0, 1e7), st.none()),
        "n": st.one_of(st.just(30), st.integers(0, 60), st.none()),
        "p99_deviation_v": st.one_of(st.none(), between(0, 3), between(0, 1000)),
    }
)
STATUS = st.one_of(st.none(), st.sampled_from(["OK", "failure", "Fa\u0131lure", "\u0131", "ﬁ", "FAILÜRE"]), st.text())


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Detection, list[dict[str, Any]], list[dict[str, Any]]]:
    """Settings, meters m0, m1, ... and the baselines of some of them and of a meter that the fleet does not know."""
    names = [f"m{i}" for i in range(3)]
    fleet = [{"meter_id": name, **values} for name, values in zip(names, draw(METERS), strict=False)]
    known = [{"meter_id": name, **draw(BASELINE)} for name in names if draw(st.booleans())]
    return draw(DETECTION), fleet, known


def neighbours(values: Iterable[float | None], steps: int = 3) -> list[float]:
    """Each number with the doubles right below and above it."""
    found = set()
    for value in values:
        if value is not None and math.isfinite(value):
            low = high = value
            found.add(value)
            for _ in range(steps):
                low, high = math.nextafter(low, -math.inf), math.nextafter(high, math.inf)
                found |= {low, high}
    return sorted(found)


def critical(detection: Detection, meter: dict[str, Any], known: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Numbers at which a rule of the meter begins or ends to fire, made by hand from the settings."""
    own = detection.of_class(meter.get("meter_class"))
    un = meter.get("nominal_voltage_v") or detection.nominal_voltage_v
    pu = [own.spike_pu, own.interruption_pu, own.implausible_pu, *own.undervoltage_pu, *own.overvoltage_pu]
    volts = [un * one for one in [*pu, -detection.zero_tolerance_pu]]
    for one in known:
        if one["meter_id"] == meter["meter_id"] and one["mean_v"] is not None:
            spread = detection.sigma * max(one["std_v"] or 0.0, un * detection.std_floor_pu)
            own_p99 = detection.profile_factor * (one["p99_deviation_v"] or 0.0)
            allowed = max(spread, un * own.min_deviation_pu, own_p99)
            volts += [one["mean_v"] - allowed, one["mean_v"] + allowed, one["mean_v"]]
    rated = meter.get("rated_current_a")
    return {
        "voltage_v": neighbours([*volts, 0.0]),
        "current_a": neighbours([0.0, *(rated * one for one in own.overcurrent_pu if rated)], 1),
        "temperature_c": neighbours([*own.plausible_temperature_c, *own.over_temperature_c], 1),
    }


def readings_near_limits(world: tuple[Detection, list[dict[str, Any]], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Every critical voltage at every critical time, and every other critical number with an ordinary voltage."""
    detection, fleet, known = world
    rows: list[dict[str, Any]] = []
    unknown = [{"meter_id": "m2"}, {"meter_id": "nobody"}]
    for meter in [*fleet, *(one for one in unknown if one["meter_id"] not in {m["meter_id"] for m in fleet})]:
        numbers, of_meter = critical(detection, meter, known), {"meter_id": meter["meter_id"]}
        times = [END_S - 0.001, END_S, 0, END_S + MAX_AGE_S, END_S + MAX_AGE_S + 0.001]
        rows += [{**of_meter, "voltage_v": v, "event_ms": ms(t)} for v in numbers["voltage_v"] for t in times]
        un = meter.get("nominal_voltage_v") or detection.nominal_voltage_v
        for name in ("current_a", "temperature_c"):
            rows += [{**of_meter, "voltage_v": un, name: value} for value in [*numbers[name], None]]
    return [{**row, "kafka_offset": number} for number, row in enumerate(rows)]


def is_inside(judge: ReadingJudge, row: dict[str, Any]) -> bool:
    return judge.bounds.inside(
        row["meter_id"],
        row["event_ms"],
        row["voltage_v"],
        row["current_a"],
        row["temperature_c"],
        row["status"],
    )


# Not shrunk: the row that the assertion shows is small already, and its world takes minutes to shrink.
@settings(max_examples=50, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(worlds(), st.lists(STATUS, max_size=5), st.floats(allow_nan=False, allow_infinity=False))
def test_a_reading_inside_its_bounds_has_no_finding_and_one_outside_has_one_or_lies_at_a_limit(
    world: tuple[Detection, list[dict[str, Any]], list[dict[str, Any]]], statuses: list[str | None], odd: float
) -> None:
    detection, fleet, known = world
    judge = ReadingJudge(detection, meters(fleet), baselines({**one, "window_end": at(END_S)} for one in known))
    rows = readings_near_limits(world)
    for meter in ("m0", "m1", "nobody"):
        un = next((m["nominal_voltage_v"] for m in fleet if m["meter_id"] == meter), None) or 230.0
        rows += [{"meter_id": meter, "voltage_v": un, "status": status} for status in statuses]
        rows += [{"meter_id": meter, name: odd} for name in ("voltage_v", "current_a", "temperature_c")]
    frame = readings([{**row, "kafka_offset": number} for number, row in enumerate(rows)])
    found = {event["source"]["offset"] for event in judge.events(frame)}
    for row in frame.rows(named=True):
        if is_inside(judge, row):
            assert row["kafka_offset"] not in found, row
        elif row["kafka_offset"] not in found:
            assert lies_at_a_limit(row, world), row


def lies_at_a_limit(row: dict[str, Any], world: tuple[Detection, list[dict[str, Any]], list[dict[str, Any]]]) -> bool:
    detection, fleet, known = world
    meter = next((m for m in fleet if m["meter_id"] == row["meter_id"]), {"meter_id": row["meter_id"]})
    numbers = critical(detection, meter, known)
    scale = 1 + max((abs(one["mean_v"] or 0.0) for one in known), default=0.0) + abs(row["voltage_v"])
    scale += max(((one["std_v"] or 0.0) * 4 + (one["p99_deviation_v"] or 0.0) * 10 for one in known), default=0.0)
    return any(
        row[name] is not None and any(abs(row[name] - limit) <= 1e-9 * scale for limit in numbers[name])
        for name in numbers
    )


def test_an_ordinary_reading_is_inside() -> None:
    """The bounds would be useless if the rules were asked about most readings."""
    judge = ReadingJudge(Detection(), meters([{}]), baselines([{}]))
    ordinary = readings([{"voltage_v": 223.2 + i / 100, "current_a": i / 40} for i in range(1, 1360)])
    assert all(is_inside(judge, row) for row in ordinary.rows(named=True))
    assert judge.events(ordinary) == []


def test_a_zero_current_and_no_current_are_inside() -> None:
    judge = ReadingJudge(Detection(), meters([{}]))
    rows = readings([{"current_a": 0.0}, {"current_a": -0.0}, {"current_a": None, "temperature_c": None}])
    assert [is_inside(judge, row) for row in rows.rows(named=True)] == [True, True, True]


def test_outside_the_time_of_the_baseline_the_bounds_without_one_hold() -> None:
    judge = ReadingJudge(Detection(), meters([{}]), baselines([{"window_end": at(END_S)}]))
    times = [END_S - 0.001, END_S, END_S + MAX_AGE_S, END_S + MAX_AGE_S + 0.001]
    rows = readings([{"voltage_v": 240.0, "event_ms": ms(t)} for t in times])
    assert [is_inside(judge, row) for row in rows.rows(named=True)] == [True, False, False, True]


def test_a_meter_that_only_the_baselines_know_is_compared_with_its_own() -> None:
    judge = ReadingJudge(Detection(), meters([{}]), baselines([{"meter_id": "m9"}]))
    rows = readings([{"meter_id": name, "voltage_v": 240.0} for name in ("m9", "m1", "nobody")])
    assert [is_inside(judge, row) for row in rows.rows(named=True)] == [False, True, True]
    assert [event["meterId"] for event in judge.events(rows)] == ["m9"]


def test_a_status_is_tested_for_failure_whatever_came_before() -> None:
    judge = ReadingJudge(Detection(), meters([{}]))
    inside = judge.bounds.inside
    for _ in range(2):
        assert inside("m1", NOON_MS, 230.0, 5.0, 20.0, "OK")
        assert not inside("m1", NOON_MS, 230.0, 5.0, 20.0, "relay failure")
    # More texts than are remembered.
    assert all(inside("m1", NOON_MS, 230.0, 5.0, 20.0, f"counter {i}") for i in range(10_100))
    assert inside("m1", NOON_MS, 230.0, 5.0, 20.0, "OK")
    assert not inside("m1", NOON_MS, 230.0, 5.0, 20.0, "counter failure")


def test_python_and_polars_agree_on_the_capitals_that_failure_is_made_of() -> None:
    """The bounds ask Python, the rule asks Polars."""
    letters = [chr(i) for i in range(sys.maxunicode + 1) if not 0xD800 <= i <= 0xDFFF]
    by_polars = pl.Series(letters).str.to_uppercase().to_list()
    wanted = set("FAILURE")
    differing = [a for a, b in zip(letters, by_polars, strict=True) if a.upper() != b and wanted & {*a.upper(), *b}]
    assert differing == []
