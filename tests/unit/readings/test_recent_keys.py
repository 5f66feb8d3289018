"""Which readings were sent before: all but the first in order of (partition, offset, item)."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.readings.recent_keys import RecentKeys, reading_keys

Batch = list[tuple[str, float]]
"""Meter and second of each reading, in order of (partition, offset, item)."""


def resent_of(batches: list[Batch]) -> list[list[int]]:
    """Rows that each batch finds re-sent, deciding as the archive does."""
    keys, rows = RecentKeys(), []
    for batch in batches:
        now = keys_of(batch)
        rows.append(keys.find_resent(*now).tolist())
        keys.add(*now)
    return rows


def keys_of(batch: Batch) -> tuple[np.ndarray, np.ndarray]:
    event_ms = np.array([round(second * 1000) for _, second in batch], np.int64)
    return reading_keys([meter for meter, _ in batch], event_ms), event_ms


A, B = "m1", "m2"
RESENT: dict[str, tuple[list[Batch], list[list[int]]]] = {
    "nothing": ([[]], [[]]),
    "nothing is repeated": ([[(A, 0), (A, 10), (B, 0)]], [[]]),
    "the first of a batch is the reading": ([[(A, 0), (A, 10), (A, 0)]], [[2]]),
    "three times the same make two re-sent": ([[(A, 0), (A, 0), (A, 0)]], [[1, 2]]),
    "an earlier batch has it": ([[(A, 0)], [(A, 10), (A, 0)]], [[], [1]]),
    "twice in a batch after it was in an earlier one": ([[(A, 0)], [(A, 0), (A, 0)]], [[], [0, 1]]),
    "batch after batch": ([[(A, 0)], [(A, 0)], [(A, 0)]], [[], [0], [0]]),
    "a millisecond apart is another reading": ([[(A, 0), (A, 0.001)], [(A, 0.002)]], [[], []]),
    "another meter is another reading": ([[(A, 0), (B, 0)], [("m3", 0)]], [[], []]),
    "across the edge of a minute": ([[(A, 59.999), (A, 60)], [(A, 60), (A, 59.999)]], [[], [0, 1]]),
    "minutes apart in one batch": ([[(A, 7200), (A, 0), (A, 7200), (A, 0)]], [[2, 3]]),
}


@pytest.mark.parametrize("name", list(RESENT))
def test_resent(name: str) -> None:
    batches, expected = RESENT[name]
    assert resent_of(batches) == expected


@given(st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 200)), max_size=12), max_size=5))
def test_a_set_of_readings_says_the_same(batches: list[Batch]) -> None:
    seen: set[tuple[str, float]] = set()
    expected = []
    for batch in batches:
        again = []
        for row, reading in enumerate(batch):
            if reading in seen:
                again.append(row)
            seen.add(reading)
        expected.append(again)
    assert resent_of(batches) == expected


def test_forgotten_reading_is_new_again_to_the_whole_minute() -> None:
    keys = RecentKeys()
    keys.add(*keys_of([(A, 30), (A, 90)]))
    keys.forget_before(60_000)
    assert keys.find_resent(*keys_of([(A, 30), (A, 90)])).tolist() == [1]


def test_beyond_a_limit_the_oldest_minutes_are_forgotten() -> None:
    keys = RecentKeys()
    keys.add(*keys_of([(A, 30), (B, 31), (A, 90), (A, 150)]))
    keys.forget_beyond(2)
    assert keys.find_resent(*keys_of([(A, 30), (A, 90), (A, 150)])).tolist() == [1, 2]


def test_a_key_is_the_same_in_every_process() -> None:
    """Also where Python hashes texts with another seed."""
    code = (
        "import numpy as np; from pipelines.readings.recent_keys import reading_keys;"
        "print(reading_keys(['m1'], np.array([5]))[0])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == reading_keys(["m1"], np.array([5]))[0]
