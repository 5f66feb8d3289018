"""The checker finds each thing that can go wrong; a checker that finds nothing proves nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.settings import Settings
from tests.factories import NOON_MS, document
from tests.faults.checker import (
    ArchiveBatch,
    Fate,
    Place,
    check_anomalies,
    check_dead_letters,
    check_flags,
    check_records,
    check_windows,
)
from tests.faults.traffic import MALFORMED, NORMAL, SPIKE, Sent

SETTINGS = Settings()
VALUES: list[bytes | None] = [document(), document(meterId="m2"), b"{", None]
TOPIC = {(0, n): SimpleNamespace(value=v, timestamp=NOON_MS, partition=0, offset=n) for n, v in enumerate(VALUES)}
SENT = [
    Sent(0, 0, NORMAL, "", VALUES[0]), Sent(0, 1, NORMAL, "", VALUES[1]),
    Sent(0, 2, MALFORMED, "truncated", VALUES[2]), Sent(0, 3, MALFORMED, "tombstone", None),
]  # fmt: skip


def stored(meter_id: str, event_ms: int = NOON_MS, volts: float = 230.0, **flags: bool) -> Fate:
    return Fate(None, meter_id, event_ms, volts, flags.get("late", False), flags.get("resent", False))


def refused(reason: str) -> Fate:
    return Fate(reason, None, None, None, None, None)


RIGHT: list[tuple[Place, Fate]] = [
    ((0, 0), stored("m1")), ((0, 1), stored("m2")),
    ((0, 2), refused("malformed_json")), ((0, 3), refused("empty_value")),
]  # fmt: skip


def wrong(found: Any) -> dict[str, int]:
    assert bool(found.problems) == any(found.figures[n] for n in found.figures if any(n in p for p in found.problems))
    return {problem.partition(":")[0]: found.figures[problem.partition(":")[0]] for problem in found.problems}


def test_what_is_right_has_no_problems() -> None:
    assert wrong(check_records(TOPIC, RIGHT, SENT, SETTINGS)) == {}


@pytest.mark.parametrize(
    ("fates", "problem"),
    [
        (RIGHT[1:], {"lost": 1}),
        ([*RIGHT, RIGHT[2]], {"duplicated": 1}),
        ([*RIGHT, ((0, 4), stored("m1"))], {"extra": 1}),
        ([((0, 0), stored("m1", volts=231.0)), *RIGHT[1:]], {"misjudged": 1}),
        ([((0, 0), stored("other")), *RIGHT[1:]], {"misjudged": 1}),
        ([((0, 0), refused("wrong_type")), *RIGHT[1:]], {"misjudged": 1}),
        ([*RIGHT[:2], ((0, 2), refused("wrong_type")), RIGHT[3]], {"misjudged": 1}),
        ([*RIGHT[:2], ((0, 2), stored("m1")), RIGHT[3]], {"misjudged": 1}),
    ],
)
def test_each_wrong_in_the_tables_is_named(fates: list[tuple[Place, Fate]], problem: dict[str, int]) -> None:
    assert wrong(check_records(TOPIC, fates, SENT, SETTINGS)) == problem


def test_an_acked_record_that_kafka_lost_is_named() -> None:
    without = {place: record for place, record in TOPIC.items() if place != (0, 1)}
    fates = [fate for fate in RIGHT if fate[0] != (0, 1)]
    assert wrong(check_records(without, fates, SENT, SETTINGS)) == {"acked_not_in_topic": 1}


def flags(*batches: Iterable[tuple[int, Fate]]) -> dict[str, int]:
    """Offsets of one partition with their fates, batch by batch, through check_flags with a watermark of 10 s."""
    fates = [((0, offset), fate) for batch in batches for offset, fate in batch]
    told, highest = [], 0
    for batch in map(list, batches):
        highest = max([highest, *(fate.event_ms or 0 for _, fate in batch)])
        told.append(ArchiveBatch({0: (min(o for o, _ in batch), max(o for o, _ in batch))}, highest))
    return wrong(check_flags(fates, told, watermark_s=10, horizon_s=600))


def test_lateness_is_told_by_earlier_batches_alone() -> None:
    old = NOON_MS - 11_000
    assert flags([(0, stored("a")), (1, stored("b", old))]) == {}
    assert flags([(0, stored("a"))], [(1, stored("b", old, late=True))]) == {}
    assert flags([(0, stored("a"))], [(1, stored("b", old))]) == {"late_flag_wrong": 1}
    assert flags([(0, stored("a")), (1, stored("b", old, late=True))]) == {"late_flag_wrong": 1}


def test_lateness_follows_the_aligned_time_of_the_batch_before() -> None:
    """Partition 1 is behind in a batch that was cut: nothing that follows is late before its time."""
    behind, ahead = NOON_MS - 100_000, NOON_MS
    fates = [((0, 0), stored("a", ahead)), ((1, 0), stored("b", behind)), ((1, 1), stored("b", behind + 5_000))]
    ranges: list[dict[int, tuple[int, int]]] = [{0: (0, 0), 1: (0, 0)}, {1: (1, 1)}]
    assert aligned_flags(fates, ranges, [behind, behind + 5_000]) == {}
    assert aligned_flags(fates, ranges, [behind, ahead]) == {}, "the last batch was not cut"
    assert aligned_flags(fates, ranges, [ahead, ahead]) == {"late_flag_wrong": 1}
    assert aligned_flags(fates, ranges, [behind + 1, ahead]) == {"aligned_time_wrong": 1}
    assert aligned_flags(fates, ranges, [behind, behind - 1]) == {"aligned_time_wrong": 1}


def aligned_flags(fates: list[tuple[Place, Fate]], ranges: Any, aligned: list[int]) -> dict[str, int]:
    batches = [ArchiveBatch(*batch) for batch in zip(ranges, aligned, strict=True)]
    return wrong(check_flags(fates, batches, watermark_s=10, horizon_s=600))


def test_the_second_of_two_is_the_one_sent_again() -> None:
    assert flags([(0, stored("a")), (1, stored("a", resent=True))]) == {}
    assert flags([(0, stored("a")), (1, stored("a"))]) == {"resent_flag_wrong": 1}
    assert flags([(0, stored("a", resent=True)), (1, stored("a", resent=True))]) == {"resent_flag_wrong": 1}


def test_each_wrong_window_is_named() -> None:
    fates = [((0, n), stored("m1", NOON_MS + n * 10_000, 230.0 + n)) for n in range(3)]
    ends = [NOON_MS + 60_000 * n for n in range(1, 6)]
    right = {("m1", end): {"n": 3, "mean_v": 231.0, "min_v": 230.0, "max_v": 232.0} for end in ends}
    assert wrong(check_windows(fates, right, SETTINGS, up_to_ms=ends[-1])) == {}
    less = {key: row for key, row in right.items() if key[1] != ends[0]}
    assert wrong(check_windows(fates, less, SETTINGS, up_to_ms=ends[-1])) == {"windows_missing": 1}
    more = right | {("m2", ends[0]): right["m1", ends[0]]}
    assert wrong(check_windows(fates, more, SETTINGS, up_to_ms=ends[-1])) == {"windows_extra": 1}
    other = right | {("m1", ends[0]): {**right["m1", ends[0]], "mean_v": 231.01}}
    assert wrong(check_windows(fates, other, SETTINGS, up_to_ms=ends[-1])) == {"windows_wrong": 1}


def event(number: int, **changes: Any) -> SimpleNamespace:
    found = {
        "anomalyId": f"id-{number}", "anomalyType": "voltage_spike", "stage": "reading", "detectedAt": number,
        "source": {"topic": "t", "partition": 0, "offset": number}, **changes,
    }  # fmt: skip
    return SimpleNamespace(value=json.dumps(found).encode())


@pytest.mark.parametrize(
    ("events", "rows", "problem"),
    [
        ([event(0), event(0, detectedAt=9, baseline={"mean": 231.0})], ["id-0"], {}),
        (
            [event(0), *[event(3, stage="window", baseline={"mean": mean}) for mean in (230.0, 231.0)]],
            ["id-0", "id-3"],
            {"repeats_that_differ": 1},
        ),
        ([], [], {"spikes_without_anomaly": 1}),
        ([event(0), event(0, score=2)], ["id-0"], {"repeats_that_differ": 1}),
        ([event(0), event(7, anomalyId="id-0", score=2)], ["id-0"], {}),
        ([event(0)], [], {"anomalies_not_in_table": 1}),
        ([event(0)], ["id-0", "id-0"], {"anomaly_rows_twice": 1}),
        ([event(0)], ["id-0", "id-1"], {"anomaly_rows_unknown": 1}),
    ],
)
def test_each_wrong_anomaly_is_named(events: list[Any], rows: list[str], problem: dict[str, int]) -> None:
    sent = {(0, number): one for number, one in enumerate(events)}
    assert wrong(check_anomalies(sent, rows, [Sent(0, 0, SPIKE, "", b"")], "t")) == problem


def test_a_missing_and_a_strange_dead_letter_are_named() -> None:
    letters = [SimpleNamespace(headers=[("origin-partition", b"0"), ("origin-offset", b"2")])]
    assert wrong(check_dead_letters(letters * 2, {(0, 2)})) == {}
    assert wrong(check_dead_letters(letters, {(0, 2), (0, 3)})) == {"rejected_without_dead_letter": 1}
    assert wrong(check_dead_letters(letters, set())) == {"dead_letters_of_accepted": 1}
