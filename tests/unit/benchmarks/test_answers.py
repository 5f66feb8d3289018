"""The model that judges every engine: it agrees with a slow one written reading by reading."""

from __future__ import annotations

import doctest
import importlib
import statistics
from pathlib import Path

import numpy as np
import pytest

import benchmarks
from benchmarks.answers import Answer, Flagged, Minutes, answer, deviations, minute_words, mix, paced_answer
from benchmarks.load import FEEDER_METERS, Load
from benchmarks.measure import Timing, WrongAnswer, compare, marginal_cpu
from benchmarks.peers.venvs import requirement

LOAD = Load(600_000, meters=1_000)
MINUTES = Minutes.of(LOAD.seed, LOAD.meters, LOAD.start_ms // 60_000, LOAD.minutes)
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def right() -> Answer:
    return answer(LOAD)


def readings_of(load: Load, meter: int) -> list[tuple[int, float]]:
    """Event time and voltage of one meter's readings, by the words of Load.java."""
    found = []
    for tick in range(load.ticks):
        at_ms = load.start_ms + tick * load.cadence_s * 1000 + meter * load.cadence_s * 1000 // load.meters
        minute = at_ms // MINUTE_MS
        word = minute_words(load.seed, load.meters, minute, 1)[meter]
        one, dice, is_low = int(mix(word + np.uint64(at_ms))[0]) >> 33, int(word[0]) >> 33, int(word[0]) % 2 == 0
        may_shift = (meter + minute) % 5 == 0 and minute >= load.start_ms // MINUTE_MS + 4
        if dice % 200 == 0:
            tenths = (1400 if is_low else 2800) + one % 400
        elif dice % 40 == 1 and may_shift:
            tenths = (2110 if is_low else 2430) + one % 60
        else:
            tenths = 2260 + one % 81
        found.append((at_ms, tenths / 10))
    return found


def test_flagged_windows_are_those_that_leave_the_baseline_of_their_readings(right: Answer) -> None:
    odd = {meter for meter, _ in right.deviating}
    for meter in sorted(odd)[:8] + sorted(set(range(40)) - odd)[:4]:
        readings = readings_of(LOAD, meter)
        for number in range(LOAD.minutes):
            end_ms = LOAD.start_ms + (number + 1) * MINUTE_MS
            base = [v for at, v in readings if end_ms - 5 * MINUTE_MS <= at < end_ms - MINUTE_MS and 207 <= v <= 253]
            tested = [v for at, v in readings if end_ms - MINUTE_MS <= at < end_ms]
            flagged = right.deviating.get((meter, end_ms))
            if len(base) < 8:
                assert flagged is None
                continue
            mean, allowed = statistics.fmean(base), max(2.5 * max(statistics.stdev(base), 1.15), 6.9)
            assert (max(abs(v - mean) for v in tested) > allowed) == (flagged is not None)
            if flagged:
                assert flagged.base_n == len(base)
                assert flagged.base_mean_v == pytest.approx(mean)
                assert ((meter, end_ms) in right.alone) <= all(207 <= v <= 253 for v in tested)


def test_half_of_the_odd_minutes_are_in_the_band() -> None:
    share = MINUTES.shifted[:, 4:].mean() / MINUTES.out.mean()
    assert 0.7 < share < 1.4
    assert not (MINUTES.shifted & MINUTES.out).any()


def test_about_one_reading_in_two_hundred_is_out_of_band(right: Answer) -> None:
    share = (right.readings_low + right.readings_high) / LOAD.readings
    assert 0.0035 < share < 0.0065


def of(*, out: np.ndarray | None = None, shifted: np.ndarray | None = None, low: np.ndarray | None = None) -> Minutes:
    shape = next(flags for flags in (out, shifted) if flags is not None).shape
    none = np.zeros(shape, np.bool_)
    return Minutes(
        none.astype(np.uint64), none if out is None else out, none if shifted is None else shifted,
        ~none if low is None else low,
    )  # fmt: skip


def test_three_meters_of_a_feeder_make_it_the_feeders_event() -> None:
    odd = np.zeros((2 * FEEDER_METERS, 6), dtype=np.bool_)
    odd[:4, 5] = True  # four of one feeder: three others each
    odd[FEEDER_METERS : FEEDER_METERS + 3, 5] = True  # three of the other: two others each
    deviates, alone = deviations(of(shifted=odd), np.full(odd.shape, 60))
    assert deviates.sum() == 7
    assert sorted(np.nonzero(alone)[0]) == [FEEDER_METERS, FEEDER_METERS + 1, FEEDER_METERS + 2]


def test_out_of_band_the_band_rules_speak_of_it_and_not_the_deviation() -> None:
    odd = np.zeros((1, 6), dtype=np.bool_)
    odd[0, 5] = True
    deviates, alone = deviations(of(out=odd), np.full(odd.shape, 60))
    assert deviates[0, 5]
    assert not alone.any()


def test_a_return_from_a_baseline_that_is_all_shifted_deviates() -> None:
    out, shifted = np.array([[True, False, True, True, False]]), np.array([[False, True, False, False, False]])
    _, alone = deviations(of(out=out, shifted=shifted), np.full(out.shape, 60))
    assert np.nonzero(alone)[1].tolist() == [4]


def test_meters_back_from_a_shift_move_alike_with_one_that_is_shifted_the_other_way() -> None:
    shifted = np.zeros((FEEDER_METERS, 6), dtype=np.bool_)
    shifted[:3, 4] = shifted[3, 5] = True
    low = np.zeros_like(shifted)
    low[:3] = True
    full = np.full(shifted.shape, 60)
    assert np.nonzero(deviations(of(shifted=shifted, low=low), full)[1][:, 5])[0].tolist() == []
    assert np.nonzero(deviations(of(shifted=shifted, low=~low | low), full)[1][:, 5])[0].tolist() == [3]


def test_a_window_without_eight_readings_before_its_last_minute_is_not_judged() -> None:
    odd = np.array([[True, False, True]])
    deviates, _ = deviations(of(out=odd), np.array([[60, 7, 60]]))
    assert not deviates.any()


def test_paced_traffic_from_a_full_minute_on_has_the_answer_of_a_load(right: Answer) -> None:
    found = paced_answer(
        LOAD.start_ms, LOAD.readings, cadence_s=1, meters=1_000, seed=LOAD.seed, storm_from=LOAD.readings
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


@pytest.mark.parametrize(
    "name", ["latency", "live", "machine", "report", "soak_chores", "soak_curves", "soak_lake", "soak_probe", "trees"]
)
def test_the_examples_in_docstrings_are_true(name: str) -> None:
    assert Path(benchmarks.__file__).with_name(f"{name}.py").is_file()
    result = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
