"""The model that judges every engine: it agrees with a slow one written reading by reading."""

from __future__ import annotations

import doctest
import importlib
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks.answers import Answer, Flagged, answer, deviations, is_low, is_odd, minute_words, mix, paced_answer
from benchmarks.load import FEEDER_METERS, Load
from benchmarks.measure import Timing, WrongAnswer, compare, marginal_cpu
from benchmarks.peers.venvs import requirement

LOAD = Load(300_000, meters=1_000)
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def right() -> Answer:
    return answer(LOAD)


def readings_of(load: Load, meter: int) -> list[tuple[int, float]]:
    """Event time and voltage of one meter's readings, by the words of Load.java."""
    found = []
    for tick in range(load.ticks):
        at_ms = load.start_ms + tick * load.cadence_s * 1000 + meter * load.cadence_s * 1000 // load.meters
        word = minute_words(load.seed, load.meters, at_ms // MINUTE_MS, 1)[meter]
        one = int(mix(word + np.uint64(at_ms))[0]) >> 33
        low = 1600 if is_low(word)[0] else 2600
        found.append((at_ms, (low + one % 400 if is_odd(word)[0] else 2260 + one % 81) / 10))
    return found


def test_flagged_windows_follow_from_the_readings_themselves(right: Answer) -> None:
    for (meter, end_ms), flagged in list(right.deviating.items())[:5]:
        readings = readings_of(LOAD, meter)
        base = [v for at, v in readings if end_ms - 5 * MINUTE_MS <= at < end_ms - MINUTE_MS and 207 <= v <= 253]
        tested = [v for at, v in readings if end_ms - MINUTE_MS <= at < end_ms]
        mean = statistics.fmean(base)
        allowed = max(2.5 * max(statistics.stdev(base), 1.15), 6.9)
        assert flagged.base_n == len(base)
        assert flagged.base_mean_v == pytest.approx(mean)
        assert max(abs(max(tested) - mean), abs(min(tested) - mean)) > allowed


def test_no_window_is_flagged_whose_readings_are_all_in_band(right: Answer) -> None:
    for meter in range(3):
        readings = readings_of(LOAD, meter)
        ends = {end for number, end in right.deviating if number == meter}
        by_minute = defaultdict(list)
        for at_ms, voltage in readings:
            by_minute[at_ms // MINUTE_MS].append(voltage)
        calm = {(minute + 1) * MINUTE_MS for minute, v in by_minute.items() if min(v) >= 226 and max(v) <= 234}
        assert not ends & calm


def test_about_one_reading_in_a_hundred_is_out_of_band(right: Answer) -> None:
    share = (right.readings_low + right.readings_high) / LOAD.readings
    assert 0.007 < share < 0.013


def test_three_meters_of_a_feeder_make_it_the_feeders_event() -> None:
    odd = np.zeros((2 * FEEDER_METERS, 6), dtype=np.bool_)
    odd[:4, 5] = True  # four of one feeder: three others each
    odd[FEEDER_METERS : FEEDER_METERS + 3, 5] = True  # three of the other: two others each
    deviates, alone = deviations(odd, np.ones_like(odd), np.full(odd.shape, 60))
    assert deviates.sum() == 7
    assert sorted(np.nonzero(alone)[0]) == [FEEDER_METERS, FEEDER_METERS + 1, FEEDER_METERS + 2]


def test_a_window_without_eight_readings_before_its_last_minute_is_not_judged() -> None:
    odd = np.array([[True, False, True]])
    deviates, _ = deviations(odd, odd, np.array([[60, 7, 60]]))
    assert not deviates.any()


def test_paced_traffic_from_a_full_minute_on_has_the_answer_of_a_load(right: Answer) -> None:
    found = paced_answer(
        LOAD.start_ms, LOAD.readings, rate=1_000, meters=1_000, seed=LOAD.seed, storm_from=LOAD.readings
    )
    assert found.alone == frozenset(right.alone)
    assert (found.readings_low, found.readings_high) == (right.readings_low, right.readings_high)


@pytest.mark.parametrize("change", ["missing", "too many", "another baseline"])
def test_a_wrong_answer_is_refused(change: str, right: Answer) -> None:
    found = dict(right.deviating)
    key = next(iter(found))
    if change == "missing":
        del found[key]
    elif change == "too many":
        found[10**6, key[1]] = found[key]
    else:
        found[key] = Flagged(found[key].base_n - 1, found[key].base_mean_v)
    with pytest.raises(WrongAnswer):
        compare("engine", found, right.deviating)


def test_the_right_answer_is_taken(right: Answer) -> None:
    compare("engine", dict(right.deviating), right.deviating)


def test_a_load_without_flagged_windows_proves_nothing() -> None:
    with pytest.raises(ValueError, match="proves nothing"):
        compare("engine", {}, {})


def test_the_marginal_cost_is_the_slope_between_two_sizes() -> None:
    small, large = (Timing("e", n, 1.0, cpu, 0.0, 0.0) for n, cpu in ((1_000_000, 30.0), (3_000_000, 50.0)))
    assert marginal_cpu(small, large) == 10.0


@pytest.mark.parametrize("package", ["apache-flink", "quixstreams"])
def test_every_peer_is_pinned(package: str) -> None:
    assert "==" in requirement(package)


@pytest.mark.parametrize("name", ["cpu", "latency", "report"])
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    assert Path(benchmarks.__file__).with_name(f"{name}.py").is_file()
    result = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
