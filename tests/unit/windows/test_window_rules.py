"""The window rules on rows of meter_windows: one meter and feeder a case, all cases judged in one frame."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.settings import Settings
from pipelines.windows.judge import Found, window_events
from pipelines.windows.look_back import span_needed_s
from tests import frames
from tests.factories import SILENT_WINDOW, at, ms
from tests.factories import settings as configured
from tests.unit.windows.judged import findings_in

SETTINGS = Settings()
SLOW = configured(detection={"cadence_s": 60})
QUARTERLY = configured(detection={"cadence_s": 900})
Windows = list[dict[str, Any]]
Case = tuple[str, Windows, Windows, set[str]]


def moved(by_v: float, **more: Any) -> dict[str, Any]:
    """A window whose whole tested part lies `by_v` off its baseline mean of 230 V, at its end 0."""
    mean = 230.0 + by_v
    return {"end": 0, "tested_mean_v": mean, "tested_min_v": mean, "tested_max_v": mean, **more}


def blip(by_v: float, **more: Any) -> dict[str, Any]:
    """A window of which one tested reading lies `by_v` off, the mean a sixth of it."""
    extreme = 230.0 + by_v
    tested = {
        "tested_min_v": min(extreme, 230.0),
        "tested_max_v": max(extreme, 230.0),
        "tested_mean_v": 230.0 + by_v / 6,
    }
    return {"end": 0, **tested, **more}


def peers(count: int, by_v: float) -> Windows:
    """Other meters of the feeder with one reading off, and twice as many quiet ones: the median rests."""
    return [
        *(blip(by_v, meter_id=f"p{i}") for i in range(count)),
        *(blip(0.0, meter_id=f"q{i}") for i in range(2 * count + 2)),
    ]


def steady(value: float, *ends: int, **more: Any) -> Windows:
    """Windows that hold one voltage throughout, at these ends."""
    same = dict.fromkeys(
        ("mean_v", "min_v", "max_v", "base_mean_v", "tested_mean_v", "tested_min_v", "tested_max_v"), value
    )
    return [{"end": end, **same, "std_v": 0.0, **more} for end in ends]


def varying(mean: float, *ends: int, **more: Any) -> Windows:
    """Windows around a mean, without a deviation inside."""
    around = {"mean_v": mean, "min_v": mean - 1, "max_v": mean + 1, "base_mean_v": mean}
    tested = {"tested_mean_v": mean, "tested_min_v": mean - 1, "tested_max_v": mean + 1}
    return [{"end": end, **around, **tested, **more} for end in ends]


def blips_of(mean: float, now: float) -> Windows:
    """A window of this mean whose tested part is at another voltage."""
    return varying(mean, 0, tested_mean_v=now, tested_min_v=now, tested_max_v=now, base_n=0)


def current(before_a: float, tested_a: float) -> dict[str, float]:
    """Currents of the baseline part and of the tested part."""
    return {"base_mean_current_a": before_a, "tested_min_current_a": tested_a, "tested_max_current_a": tested_a}


def scattered(std_v: float, *ends: int, **more: Any) -> Windows:
    """Windows whose tested part has this spread."""
    return [{"end": end, "tested_std_v": std_v, **more} for end in ends or (0,)]


def apart(residual_v: float, *ends: int, **more: Any) -> Windows:
    """Windows whose tested part lies this far off the feeder."""
    return [{"end": end, "residual_v": residual_v, **more} for end in ends or (0,)]


FLAT = {"min_v": 231.0, "mean_v": 231.0, "max_v": 231.0}
HALF_HOUR = tuple(range(-60, -1800, -60))
NOISE, STEP, DRIFT = {"m noisy_sensor WARNING"}, {"m voltage_step WARNING"}, {"m voltage_drift WARNING"}
RISE = {"m temperature_rise WARNING"}
HELD_HIGH = {"m overvoltage INFO"}
NONE: set[str] = set()
DEVIATION = {"m voltage_deviation WARNING"}
CASES: list[Case] = [
    # name, windows judged, windows before, what is said of whom
    ("an ordinary window says nothing", [{"end": 0}], [], NONE),
    ("one reading 7 V off", [blip(7.0)], [], DEVIATION),
    ("a sag of one reading", [blip(-7.0)], [], DEVIATION),
    ("just below 3 % of Un is allowed", [blip(6.89)], [], NONE),
    ("2.5 sigma of a wide baseline are allowed", [blip(12.5, base_std_v=5.0)], [], NONE),
    ("more than that is not", [blip(12.6, base_std_v=5.0)], [], DEVIATION),
    ("a baseline without any spread has the floor's", [blip(7.0, base_std_v=0.0)], [], DEVIATION),
    ("8 baseline readings are enough", [blip(7.0, base_n=8)], [], DEVIATION),
    ("7 baseline readings are too few", [blip(7.0, base_n=7)], [], NONE),
    ("no baseline at all", [blip(7.0, base_n=0, base_mean_v=None, base_std_v=None)], [], NONE),
    (
        "no tested reading",
        [{"end": 0, "tested_min_v": None, "tested_max_v": None, "tested_mean_v": None}],
        [],
        NONE,
    ),
    (
        "2 peers alike leave it the meter's",
        [blip(7.0), *peers(2, 8.0)],
        [],
        {*DEVIATION, "p0 voltage_deviation WARNING", "p1 voltage_deviation WARNING"},
    ),
    ("3 peers alike make it the feeder's", [blip(7.0), *peers(3, 8.0)], [], NONE),
    (
        "3 peers the other way do not",
        [blip(7.0), *peers(3, -8.0)],
        [],
        {*DEVIATION, *(f"p{i} voltage_deviation WARNING" for i in range(3))},
    ),
    (
        "a feeder whose median moved half as much",
        [moved(10.0), *(moved(5.0, meter_id=f"q{i}") for i in range(4))],
        [],
        NONE,
    ),
    (
        "a feeder whose median moved less",
        [moved(10.0), *(moved(3.2, meter_id=f"q{i}") for i in range(4))],
        [],
        DEVIATION,
    ),
    ("the only meter of a feeder", [moved(12.0)], [], DEVIATION),
    ("the only meter of a feeder, by less than 5 %", [moved(11.4)], [], NONE),
    ("one of two meters of a feeder", [moved(12.0), moved(0.0, meter_id="q")], [], DEVIATION),
    ("both meters of a feeder", [moved(12.0), moved(7.0, meter_id="q")], [], NONE),
    (
        "meters without a feeder do not vouch for each other",
        [moved(12.0, feeder_id=None, meter_id=f"{m}") for m in ("m", "n", "o", "p")],
        [],
        {f"{m} voltage_deviation WARNING" for m in ("m", "n", "o", "p")},
    ),
    ("10 min at 206.9 V", varying(206.9, 0), varying(206.9, -300), {"m sustained_undervoltage ERROR"}),
    ("10 min at 207 V", varying(207.0, 0), varying(207.0, -300), NONE),
    (
        "10 min at 195.5 V, which is 0.85 Un",
        varying(195.5, 0),
        varying(195.5, -300),
        {"m sustained_undervoltage ERROR"},
    ),
    ("10 min at 195.4 V", varying(195.4, 0), varying(195.4, -300), {"m sustained_undervoltage CRITICAL"}),
    ("10 min at 253.1 V", varying(253.1, 0), varying(253.1, -300), {"m sustained_overvoltage ERROR"}),
    ("10 min at 253 V", varying(253.0, 0), varying(253.0, -300), NONE),
    (
        "the mean is weighted by readings",
        varying(200.0, 0, plausible_n=10),
        varying(210.5, -300, plausible_n=20),
        NONE,
    ),
    (
        "and so is this one",
        varying(200.0, 0, plausible_n=20),
        varying(210.0, -300, plausible_n=10),
        {"m sustained_undervoltage ERROR"},
    ),
    (
        "only the disjoint window counts, not the overlapping ones",
        varying(200.0, 0),
        [*varying(215.0, -300), *varying(190.0, -60, -120, -180, -240, -360)],
        NONE,
    ),
    ("the window before is missing", varying(200.0, 0), varying(200.0, -60, -240, -360, -600), NONE),
    ("the window before was silent", varying(200.0, 0), [{**SILENT_WINDOW, "end": -300}], NONE),
    ("only implausible readings", varying(200.0, 0, plausible_n=0, mean_v=None), varying(200.0, -300), NONE),
    (
        "7 readings in all are too few",
        varying(200.0, 0, plausible_n=4),
        varying(200.0, -300, plausible_n=3),
        NONE,
    ),
    (
        "8 are enough",
        varying(200.0, 0, plausible_n=4),
        varying(200.0, -300, plausible_n=4),
        {"m sustained_undervoltage ERROR"},
    ),
    (
        "a 120 V meter at 107 V",
        varying(107.0, 0, nominal_voltage_v=120.0),
        varying(107.0, -300),
        {"m sustained_undervoltage ERROR"},
    ),
    ("another meter's windows do not help", varying(200.0, 0), varying(200.0, -300, meter_id="n"), NONE),
    ("10 min at 260 V, and now back by 2 %", blips_of(260.0, 248.3), varying(260.0, -300), NONE),
    ("back by less", blips_of(260.0, 249.0), varying(260.0, -300), {"m sustained_overvoltage ERROR", *HELD_HIGH}),
    ("10 min at 200 V, and now back by 2 %", blips_of(200.0, 211.7), varying(200.0, -300), NONE),
    (
        "no reading any more",
        varying(200.0, 0, tested_mean_v=None, tested_min_v=None, tested_max_v=None),
        varying(200.0, -300),
        {"m sustained_undervoltage ERROR"},
    ),
    ("15 min without a change", steady(231.0, 0), steady(231.0, -300, -600), {"m stuck_sensor WARNING"}),
    ("10 min without a change", steady(231.0, 0), steady(231.0, -300), NONE),
    (
        "one change of 0.1 V in the first window",
        steady(231.0, 0),
        [*steady(231.0, -300), *steady(231.0, -600, max_v=231.1)],
        NONE,
    ),
    (
        "one change in the middle window",
        steady(231.0, 0),
        [*steady(231.0, -300, min_v=230.9), *steady(231.0, -600)],
        NONE,
    ),
    ("one change in the last window", steady(231.0, 0, max_v=231.1), steady(231.0, -300, -600), NONE),
    ("another constant voltage before", steady(231.0, 0), [*steady(231.0, -300), *steady(230.0, -600)], NONE),
    ("a missing window", steady(231.0, 0), steady(231.0, -300, -660), NONE),
    ("a silent window", steady(231.0, 0), [*steady(231.0, -300), {**SILENT_WINDOW, "end": -600}], NONE),
    (
        "9 readings are too few",
        steady(231.0, 0, plausible_n=3),
        steady(231.0, -300, -600, plausible_n=3),
        NONE,
    ),
    (
        "10 are enough",
        steady(231.0, 0, plausible_n=4),
        steady(231.0, -300, -600, plausible_n=3),
        {"m stuck_sensor WARNING"},
    ),
    (
        "a dead meter at 0 V is not stuck",
        steady(0.0, 0),
        steady(0.0, -300, -600),
        {"m sustained_undervoltage CRITICAL"},
    ),
    ("23 V is 0.1 Un", steady(23.0, 0), steady(23.0, -300, -600), {"m sustained_undervoltage CRITICAL"}),
    (
        "23.1 V is stuck",
        steady(23.1, 0),
        steady(23.1, -300, -600),
        {"m sustained_undervoltage CRITICAL", "m stuck_sensor WARNING"},
    ),
    ("three peers a third as far off make it the feeder's", [blip(9.0), *peers(3, 3.0)], [], NONE),
    ("its own current explains 0.4 ohm of a drop", [blip(-10.0, **current(0.0, 8.0))], [], NONE),
    ("but not all of it", [blip(-10.5, **current(0.0, 8.0))], [], DEVIATION),
    ("a load switched off explains a rise", [blip(10.0, **current(8.0, 0.0))], [], NONE),
    ("a load switched on explains no rise", [blip(10.0, **current(0.0, 8.0))], [], DEVIATION),
    ("2.2 times its own p99 are allowed", [blip(8.7, p99_deviation_v=4.0)], [], NONE),
    ("more are not", [blip(8.9, p99_deviation_v=4.0)], [], DEVIATION),
    ("five scattered slides", scattered(2.4), scattered(2.4, -60, -120, -180, -240), NOISE),
    ("spread of just 1 %", scattered(2.3), scattered(2.3, -60, -120, -180, -240), NONE),
    ("one of them quiet", scattered(2.6), [*scattered(2.6, -60, -120, -180), *scattered(0.3, -240)], NONE),
    ("one of them with a step", scattered(0.3), [*scattered(0.3, -60, -120, -180), *scattered(9.0, -240)], NONE),
    ("a slide missing", scattered(5.0), scattered(5.0, -60, -120, -180), NONE),
    (
        "the feeder scatters as much",
        scattered(2.6, feeder_std_v=1.3),
        scattered(2.6, -60, -120, -180, -240, feeder_std_v=1.3),
        NONE,
    ),
    (
        "twice its own p99 noise",
        scattered(2.9, p99_noise_v=1.5),
        scattered(2.9, -60, -120, -180, -240),
        NONE,
    ),
    ("5 min beyond 3.5 %", apart(8.1), apart(8.1, -60, -120, -180, -240), STEP),
    ("the other way", apart(-8.1), apart(-8.1, -60, -120, -180, -240), STEP),
    ("exactly 3.5 % of Un", apart(8.05), apart(8.05, -60, -120, -180, -240), NONE),
    ("4 min are no step", apart(9.0), [*apart(9.0, -60, -120, -180), *apart(1.0, -240)], NONE),
    ("from one side to the other", apart(9.0), [*apart(9.0, -60, -120), *apart(-9.0, -180, -240)], NONE),
    ("a slide without a feeder to compare with", apart(9.0), apart(9.0, -60, -120, -180), NONE),
    ("30 min off the day before", apart(6.0, residual_offset_v=0.0), apart(6.0, *HALF_HOUR), DRIFT),
    ("no history", apart(6.0), apart(6.0, *HALF_HOUR), NONE),
    ("it was like that the day before", apart(6.0, residual_offset_v=1.0), apart(6.0, *HALF_HOUR), NONE),
    ("it left where it was", apart(0.0, residual_offset_v=6.0), apart(0.0, *HALF_HOUR), DRIFT),
    (
        "it is stuck, and its feeder moves",
        apart(6.0, residual_offset_v=0.0, **FLAT),
        apart(6.0, *HALF_HOUR, **FLAT),
        {"m stuck_sensor WARNING"},
    ),
    ("12 min of 30", apart(6.0, residual_offset_v=0.0), apart(6.0, *HALF_HOUR[:11]), NONE),
    ("20 °C within 15 min", [{"end": 0, "tested_max_temperature_c": 40.0}], [{"end": -300}, {"end": -600}], RISE),
    ("19.9 °C", [{"end": 0, "tested_max_temperature_c": 39.9}], [{"end": -300}, {"end": -600}], NONE),
    ("it was cold 20 min ago", [{"end": 0, "tested_max_temperature_c": 40.0, "min_temperature_c": 25.0}],
     [{"end": -300, "min_temperature_c": 25.0}, {"end": -600, "min_temperature_c": 25.0}, {"end": -900}], NONE),
    ("a fall", [{"end": 0, "max_temperature_c": 60.0, "tested_max_temperature_c": 20.0}], [], NONE),
    ("back in the band, by less than 2 %", [blip(-20.0, min_v=200.0, base_n=0)], [], {"m undervoltage INFO"}),
    ("back by more", [blip(-18.0, min_v=200.0, base_n=0)], [], NONE),
    ("still out of the band", [blip(-30.0, min_v=200.0, base_n=0)], [], NONE),
    ("never out of it", [blip(-20.0, min_v=210.0, base_n=0)], [], NONE),
    ("high, and back by less than 2 %", [blip(20.0, max_v=260.0, base_n=0)], [], {"m overvoltage INFO"}),
]  # fmt: skip


FEW = ("the only meter of a feeder", "one of two meters of a feeder", "both meters of a feeder")
COMPANY = [{"end": 0, "meter_id": f"c{i}"} for i in range(3)]
"""Quiet neighbours: without two of them the rules know less."""


def own(case: int, windows: Windows) -> Windows:
    """The windows with meters and a feeder of their own."""
    return [
        {**w, "meter_id": f"{case}/{w.get('meter_id', 'm')}", "feeder_id": w.get("feeder_id", f"f{case}")}
        for w in windows
    ]


@pytest.fixture(scope="module")
def findings() -> dict[int, list[Found]]:
    """What the rules say, by number of the case."""
    judged = [
        w
        for i, (name, windows, _, _) in enumerate(CASES)
        for w in own(i, [*windows, *([] if name.startswith(FEW) else COMPANY)])
    ]
    before = [without_topology(w) for i, (_, _, windows, _) in enumerate(CASES) for w in own(i, windows)]
    found: dict[int, list[Found]] = {i: [] for i in range(len(CASES))}
    for one in findings_in(frames.windows(judged), before, SETTINGS):
        found[int(one.meter_id.split("/")[0])].append(one)
    return found


def without_topology(window: dict[str, Any]) -> dict[str, Any]:
    """A window as the table has it."""
    return {name: value for name, value in window.items() if name not in ("feeder_id", "nominal_voltage_v")}


def spoken(found: list[Found]) -> list[str]:
    """["m stuck_sensor WARNING", ...]."""
    return sorted(f"{f.meter_id.split('/')[1]} {f.finding.anomaly_type} {f.finding.severity}" for f in found)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[name for name, *_ in CASES])
def test_window_rule(findings: dict[int, list[Found]], number: int) -> None:
    assert spoken(findings[number]) == sorted(CASES[number][3])


def finding_of(findings: dict[int, list[Found]], name: str) -> Found:
    """The only finding of a case."""
    (found,) = findings[next(i for i, (case, *_) in enumerate(CASES) if case == name)]
    return found


def test_voltage_deviation_states_the_baseline_part(findings: dict[int, list[Found]]) -> None:
    found = finding_of(findings, "a sag of one reading")
    assert found.event_ms == ms(0)
    assert found.baseline == {
        "mean": 230.0,
        "std": 0.5,
        "n": 24,
        "windowStart": ms(-300),
        "windowEnd": ms(-60),
    }
    said = found.finding
    assert (said.observed, said.deviation, said.threshold_used) == pytest.approx((223.0, -7.0, 6.9))


def test_sustained_voltage_states_mean_and_limit(findings: dict[int, list[Found]]) -> None:
    said = finding_of(findings, "and so is this one").finding
    assert said.observed == pytest.approx((200 * 20 + 210 * 10) / 30)
    assert said.threshold_used == pytest.approx(207.0)
    assert "10-minute mean" in said.message


def test_history_reaches_back_as_far_as_the_slowest_rule_looks() -> None:
    assert span_needed_s(SETTINGS.detection) == 1800
    assert span_needed_s(SLOW.detection) == 1800


def test_a_window_of_15_minutes_needs_no_other() -> None:
    """At a cadence of 60 s one window covers the spans of both rules."""
    rows = [
        *steady(231.0, 0, meter_id="stuck"),
        *varying(200.0, 0, meter_id="low"),
        *varying(230.0, 0, meter_id="fine"),
    ]
    found = findings_in(frames.windows(rows, window_s=900, n=15, plausible_n=15, base_n=12), [], SLOW)
    assert sorted((one.meter_id, one.finding.anomaly_type) for one in found) == [
        ("low", "sustained_undervoltage"),
        ("stuck", "stuck_sensor"),
    ]


def test_a_drift_is_found_where_one_slide_is_longer_than_its_span() -> None:
    """At a cadence of 15 min a slide is 45 min, the span of voltage_drift 30."""
    rows = [*apart(6.0, residual_offset_v=0.0), *apart(5.0, residual_offset_v=0.0, meter_id="allowed")]
    (found,) = findings_in(frames.windows(rows, window_s=13_500), apart(0.0, -2700, -5400), QUARTERLY)
    assert (found.meter_id, found.finding.anomaly_type) == ("m1", "voltage_drift")
    assert "over 45 minutes" in found.finding.message


def test_later_windows_never_change_an_earlier_verdict() -> None:
    """Three constant windows in one call: the first two have no 15 minutes behind them, the third has."""
    rows = frames.windows([w for end in (0, 300, 600, 900) for w in steady(231.0, end)])
    found = findings_in(rows, [], SETTINGS)
    assert sorted((one.event_ms, one.finding.anomaly_type) for one in found) == [
        (ms(600), "stuck_sensor"),
        (ms(900), "stuck_sensor"),
    ]


def test_a_window_anomaly_carries_the_latest_reading_of_its_meter() -> None:
    windows = [*varying(230.0, 0, last=-10, meter_id="fine"), {**blip(12.0), "last": -10}]
    readings = [
        {"event_ts": at(-20), "voltage_v": 231.0, "kafka_offset": 4},
        {"event_ts": at(-10), "voltage_v": 237.0, "kafka_offset": 5},
        {"event_ts": at(-10), "voltage_v": 230.0, "kafka_offset": 7, "meter_id": "fine"},
    ]
    found = findings_in(frames.windows(windows), [], SETTINGS)
    (anomaly,) = window_events(found, frames.readings(readings))
    assert (anomaly["stage"], anomaly["meterId"], anomaly["eventTime"]) == ("window", "m1", ms(0))
    assert anomaly["source"]["offset"] == 5
    assert anomaly["originalEvent"]["voltage"] == 237.0
