"""Whatever the order of catching up: no reading sent in time is late, Spark drops nothing, nothing is held for ever."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipelines.readings.alignment import is_cut
from tests.unit.readings.catch_ups import END, PROTOCOL, Record, Rules, Setting, catch_up

WRONG = ("in time, judged late", "dropped by Spark", "held at the end")


def outcome(seeds: int, rules: Rules = PROTOCOL) -> Counter[str]:
    return sum((catch_up(seed, rules) for seed in range(seeds)), Counter())


def test_three_hundred_catch_ups_lose_no_reading() -> None:
    found = outcome(300)
    assert {kind: found[kind] for kind in WRONG} == dict.fromkeys(WRONG, 0)
    assert found["counted"] > 200_000
    assert found["most held"] > 0


def test_under_permanent_overload_a_partition_that_falls_behind_loses_nothing() -> None:
    """More comes than a batch takes, for as long as anything is sent; partition 1 has most of it and falls behind."""
    few = [Record(sent, sent, 0) for sent in range(END)]
    many = [Record(sent, sent, meter) for sent in range(END) for meter in range(1, 9)]
    setting = Setting(watermark=10, slide=10, limit=12, logs=[few, many], step=3, downtimes=[(50, 250)])
    for seed in range(5):
        found = catch_up(seed, setting=setting)
        assert {kind: found[kind] for kind in WRONG} == dict.fromkeys(WRONG, 0)
        assert found["counted"] == len(few) + len(many)


def test_without_the_partition_furthest_behind_readings_in_time_are_late() -> None:
    """The first edition: aligned time is always the largest frontier."""
    assert outcome(60, replace(PROTOCOL, is_cut=lambda *_, **__: False))["in time, judged late"] > 0


def test_without_holding_back_spark_drops_rows() -> None:
    assert outcome(60, replace(PROTOCOL, holds_back=False))["dropped by Spark"] > 0


def test_with_the_panes_of_a_batch_in_two_files_spark_drops_rows() -> None:
    assert outcome(60, replace(PROTOCOL, files_per_batch=2))["dropped by Spark"] > 0


def test_a_batch_that_takes_exactly_the_rest_and_counts_as_cut_holds_rows_for_ever() -> None:
    def full_is_cut(ranges, *, limit, ends):  # type: ignore[no-untyped-def]
        return is_cut(ranges, limit=limit, ends={p: end + 1 for p, end in ends.items()})

    assert outcome(60, replace(PROTOCOL, is_cut=full_is_cut))["held at the end"] > 0


def test_with_a_limit_of_held_panes_no_more_are_held_and_still_nothing_is_dropped() -> None:
    free, bounded = outcome(60), outcome(60, replace(PROTOCOL, max_held=3))
    assert max(catch_up(seed, replace(PROTOCOL, max_held=3))["most held"] for seed in range(60)) == 3
    assert bounded["dropped by Spark"] == bounded["held at the end"] == 0
    assert bounded["in time, judged late"] > free["in time, judged late"] == 0
