"""Meters without neighbours: judged by what they themselves did at that hour of the days before, and when they are
back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from pipelines.lake.frames import as_declared, empty
from pipelines.offline.detection import READING, build
from pipelines.tables import METERS, PROFILES
from pipelines.windows.fleet import complete_fleet
from pipelines.windows.profiles import HOURS, attach_profiles, profiles_of
from tests import frames
from tests.factories import Values, at, settings, utc
from tests.unit.windows.judged import findings_in

MINUTELY = settings(detection={"cadence_s": 60, "window": "5 min", "slide": "1 min", "min_history": 3})
DETECTION = MINUTELY.detection
ALONE = {"feeder_id": None, "own_low_v": 229.0, "own_high_v": 233.0, "own_deviation_v": 4.0, "own_noise_v": 2.0}


def found(rows: list[dict[str, Any]], before: list[Values] = ()) -> list[str]:  # type: ignore[assignment]
    """Types of what is found of the rows, sorted."""
    return sorted({one.finding.anomaly_type for one in findings_in(frames.windows(rows), before, MINUTELY)})


def lasting(volts: float, minutes: int, **more: Any) -> tuple[list[dict[str, Any]], list[Values]]:
    """A voltage that has lasted: the row of its last window end, and the rows before it."""
    level = {"base_mean_v": volts, "tested_mean_v": volts, "mean_v": volts, "tested_min_v": volts - 0.5,
             "tested_max_v": volts + 0.5, "min_v": volts - 1, "max_v": volts + 1}  # fmt: skip
    rows = [{"end": -60 * back, **level} for back in range(minutes)]
    return [rows[0] | ALONE | more], rows[1:]


LASTING: dict[str, tuple[float, int, dict[str, Any], list[str]]] = {
    # name: V, minutes, what else, found. The range ends at 233 V; 2.5 % Un are 5.75 V, 3.5 % 8.05 V.
    "inside the range of the hour": (232.0, 31, {}, []),
    "outside by less than is allowed": (238.0, 31, {}, []),
    "outside by a drift": (239.5, 31, {}, ["voltage_drift"]),
    "outside by a step": (242.0, 6, {}, ["voltage_step"]),
    "outside by both": (242.0, 31, {}, ["voltage_drift", "voltage_step"]),
    "below by both": (220.0, 31, {}, ["voltage_drift", "voltage_step"]),
    "below, as its own current explains": (220.0, 31, {"tested_min_current_a": 16.0}, []),
    "outside a wide range by less than its width": (242.0, 31, {"own_low_v": 222.0}, []),
    "no profile of the hour": (242.0, 31, {"own_low_v": None, "own_high_v": None}, []),
}


@pytest.mark.parametrize("name", list(LASTING))
def test_it_leaves_the_range_of_the_hour(name: str) -> None:
    volts, minutes, more, expected = LASTING[name]
    assert found(*lasting(volts, minutes, **more)) == expected


def test_with_two_neighbours_the_feeder_speaks_and_not_the_past() -> None:
    row, before = lasting(242.0, 31, feeder_id="f1")
    assert found([row[0] | {"meter_id": f"m{i}"} for i in range(1, 4)], before) == []


@pytest.mark.parametrize(
    ("own", "expected"), [({}, []), ({"own_deviation_v": 3.0}, ["voltage_deviation"]), ({"feeder_id": "f1"}, [])]
)
def test_a_deviation_that_is_usual_at_that_hour_is_none(own: dict[str, Any], expected: list[str]) -> None:
    """5 % Un are 11.5 V; usual are 8 V, of which 1.5 times is allowed."""
    row = ALONE | {"end": 0, "own_deviation_v": 8.0, "tested_min_v": 218.1, "tested_mean_v": 229.0} | own
    assert found([row]) == expected


@pytest.mark.parametrize(("usual_v", "expected"), [(3.0, []), (1.0, ["noisy_sensor"])])
def test_noise_that_is_usual_at_that_hour_is_none(usual_v: float, expected: list[str]) -> None:
    noisy = {"tested_std_v": 4.0}
    row = ALONE | noisy | {"end": 0, "own_noise_v": usual_v}
    assert found([row], [{"end": -60 * k, **noisy} for k in range(1, 5)]) == expected


def test_a_fleet_of_one_gets_the_window_ends_it_missed_and_a_larger_fleet_does_not() -> None:
    def ends(meters: int) -> list[float]:
        rows = [{"meter_id": f"m{i}", "end": 600} for i in range(meters)]
        before = [{"meter_id": f"m{i}", "end": 300, "last": 290} for i in range(meters)]
        windows, earlier = (frames.windows(some, placed=False) for some in (rows, before))
        whole = complete_fleet(windows, earlier, pl.Series([], dtype=pl.String), window_s=300, slide_s=60)
        assert whole.filter(pl.col("n") == 0)["last_event_ts"].unique().to_list() in ([], [utc(290)])
        return [(end - utc(0)).total_seconds() for end in whole["window_end"].unique().sort()]

    assert ends(1) == [360, 420, 480, 540, 600]
    assert ends(2) == [600]


@pytest.mark.parametrize(("known", "days", "made_up"), [(["m1"], 3, 3), (["m1"], 40, 31), ([], 3, 1)])
def test_the_ends_of_a_long_gap_are_made_up_as_long_as_the_meter_is_followed(
    known: list[str], days: int, made_up: int
) -> None:
    windows, earlier = (frames.windows([{"end": end}], placed=False) for end in (days * 86_400, 0))
    whole = complete_fleet(windows, earlier, pl.Series(known, dtype=pl.String), window_s=300, slide_s=60)
    assert whole.height == pytest.approx(made_up * 1440, abs=2)


def readings_of(meters: int, minutes: list[int]) -> pl.DataFrame:
    rows = [
        {"meter_id": f"m{m}", "event_ts": at(60.0 * minute + m), "voltage_v": 230.0 + 0.1 * (minute % 7)}
        for minute in minutes
        for m in range(meters)
    ]
    made = frames.readings(rows)
    return made.select(
        *((pl.col(n) if n in made.columns else pl.lit(None)).cast(k).alias(n) for n, k in READING.items())
    )


@pytest.mark.parametrize(
    ("back_after", "expected"),
    [
        (4, []),
        (20, [(300, "WARNING"), (1260, "INFO")]),
        (100, [(300, "WARNING"), (1800, "ERROR"), (3600, "ERROR"), (5400, "ERROR"), (6060, "INFO")]),
    ],
)
def test_a_meter_that_is_the_whole_fleet_is_said_to_have_been_silent_when_it_is_back(
    back_after: int, expected: list[tuple[int, str]]
) -> None:
    minutes = [*range(31), *range(30 + back_after, 60 + back_after)]
    events = build(readings_of(1, minutes), empty(METERS), None, settings=MINUTELY).anomalies
    last_ms = round(utc(1800).timestamp() * 1000)
    said = [((event["eventTime"] - last_ms) / 1000, event["severity"]) for event in events]
    assert {event["anomalyType"] for event in events} <= {"meter_silent"}
    assert said == expected


def test_three_meters_silent_at_once_are_an_outage_of_the_way_and_no_fault_of_theirs() -> None:
    events = build(readings_of(3, [*range(31), *range(70, 90)]), empty(METERS), None, settings=MINUTELY).anomalies
    assert {event["severity"] for event in events} <= {"INFO"}


def day_rows(*, is_alone: bool = True, from_hour: int = 0, volts: float = 230.0) -> pl.DataFrame:
    """What `profile_rows` makes of a day: the voltage rises by 1 V an hour."""
    rows = [
        {"meter_id": "m", "profile_date": utc(0).date(), "hour": hour, "n": 5, "is_alone": is_alone, "deviates": False,
         "tested_mean_v": volts + hour, "own_deviation_v": 2.0, "noise_v": 0.5, "usual_v": None, "is_noisy": False}
        for hour in range(from_hour, HOURS) for _ in range(60)
    ]  # fmt: skip
    return pl.DataFrame(rows, schema_overrides={"usual_v": pl.Float64()})


def test_a_profile_has_the_hours_of_a_meter_without_neighbours_also_of_half_a_day() -> None:
    (whole,) = profiles_of(day_rows(), detection=DETECTION).to_dicts()
    assert whole["hour_low_v"] == [230.0 + hour for hour in range(HOURS)]
    assert (whole["p99_noise_v"], whole["hour_noise_v"][3], whole["hour_deviation_v"][3]) == (0.5, 0.5, 2.0)
    (half,) = profiles_of(day_rows(from_hour=12), detection=DETECTION).to_dicts()
    assert half["hour_high_v"] == [None] * 12 + [242.0 + hour for hour in range(12)]
    assert half["p99_noise_v"] is None, "what needs a full day is not there"


def test_a_meter_with_neighbours_has_no_hours() -> None:
    (profile,) = profiles_of(day_rows(is_alone=False), detection=DETECTION).to_dicts()
    assert profile["hour_low_v"] is None
    assert not profiles_of(day_rows(is_alone=False, from_hour=12), detection=DETECTION).height


def attached(end: float, lows: list[float | None]) -> tuple[float | None, float | None]:
    """own_low_v and own_high_v of a window; `lows`: of each day before, in every hour but rising by 1 V an hour."""
    above = {"hour_low_v": 0.0, "hour_high_v": 5.0, "hour_deviation_v": 0.0, "hour_noise_v": 0.0}
    rows = [
        {"meter_id": "m1", "profile_date": (utc(end) - timedelta(days=age)).date(), "windows": 1440}
        | {name: None if low is None else [low + v + hour for hour in range(HOURS)] for name, v in above.items()}
        for age, low in enumerate(lows, 1)
    ]
    profiles = pl.concat([empty(PROFILES), as_declared(pl.DataFrame(rows, infer_schema_length=None), PROFILES)])
    windows = frames.windows([{"end": end}], placed=False)
    (row,) = attach_profiles(windows, profiles, detection=DETECTION).to_dicts()
    return row["own_low_v"], row["own_high_v"]


def test_the_range_of_the_hour_goes_from_the_middle_of_one_hour_to_that_of_the_next() -> None:
    """The tested part of a window that ends at 12:30:30 is in the middle of its hour."""
    assert attached(1830, [100.0, 100.0]) == (112.0, 117.0)
    low, _ = attached(3630, [100.0, 100.0])
    assert low == pytest.approx(112.5)
    at_midnight, _ = attached(12 * 3600, [100.0, 100.0])
    assert at_midnight == pytest.approx(123.0 * 31 / 60 + 100.0 * 29 / 60)


def test_of_three_days_the_second_counts_so_that_a_day_with_a_fault_does_not() -> None:
    assert attached(1830, [100.0, 90.0]) == (102.0, 117.0)
    assert attached(1830, [100.0, 90.0, 101.0]) == (112.0, 117.0)
    assert attached(1830, [None, None]) == (None, None)
    assert attached(1830, [100.0]) == (None, None), "a single day does not show how far days differ"
