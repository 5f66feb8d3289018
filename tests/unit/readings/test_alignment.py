"""Aligned time: who is waited for, what is late, and what a start finds in audit."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipelines.readings.alignment import Alignment, BatchProgress, Ranges, is_cut


def batch(
    ranges: Ranges, highest_ms: dict[int, int], *, cut: bool = True, records: dict[int, int] | None = None
) -> BatchProgress:
    """A batch whose offsets all held records, unless it says otherwise."""
    counts = {p: end - first for p, (first, end) in ranges.items()} if records is None else records
    return BatchProgress(ranges, cut, highest_ms, counts)


TWO = {0: (0, 10), 1: (0, 10)}


@pytest.mark.parametrize(
    ("ranges", "ends", "cut"),
    [
        ({0: (0, 50), 1: (10, 60)}, {0: 51, 1: 60}, True),
        ({0: (0, 50), 1: (10, 58)}, {0: 51, 1: 60}, True),  # rounding: one offset less per partition
        ({0: (0, 50), 1: (10, 57)}, {0: 51, 1: 60}, False),  # not full: what lies beyond came later
        ({0: (0, 50), 1: (10, 60)}, {0: 50, 1: 60}, False),  # exactly the rest
        ({0: (0, 100)}, {0: 100, 1: 5}, True),  # a partition that the batch does not know yet
    ],
)
def test_a_batch_is_cut_when_it_is_full_and_the_topic_goes_on(ranges: Ranges, ends: dict[int, int], cut: bool) -> None:
    assert is_cut(ranges, limit=100, ends=ends) is cut


def test_a_range_of_an_earlier_run_counts_as_cut_while_the_topic_goes_on() -> None:
    """Its limit is not known; what it holds back the next batch releases, and without more offsets there is none."""
    assert is_cut({0: (0, 5)}, limit=None, ends={0: 6})
    assert not is_cut({0: (0, 5)}, limit=None, ends={0: 5})


def test_in_a_cut_batch_the_partition_furthest_behind_decides() -> None:
    assert Alignment().after(batch(TWO, {0: 900, 1: 400})).aligned_ms == 400


def test_without_a_backlog_the_partition_furthest_ahead_decides() -> None:
    assert Alignment().after(batch(TWO, {0: 900, 1: 400}, cut=False)).aligned_ms == 900


def test_an_idle_partition_is_not_waited_for() -> None:
    """Its range is empty: it has no backlog, however far behind it is."""
    state = Alignment({0: 900, 1: 400}, 400).after(batch({0: (10, 20), 1: (10, 10)}, {0: 1900}))
    assert state.aligned_ms == 1900


def test_a_partition_that_never_had_data_is_not_waited_for() -> None:
    assert Alignment().after(batch({0: (0, 10), 1: (0, 0)}, {0: 900})).aligned_ms == 900


def test_a_partition_with_garbage_only_is_not_waited_for() -> None:
    assert Alignment().after(batch(TWO, {0: 900})).aligned_ms == 900


def test_a_partition_with_nothing_but_gaps_so_far_makes_aligned_time_stay() -> None:
    """Markers and aborted records of transactions: nobody knows how old the first reading behind them is."""
    state = Alignment({0: 500}, 500).after(batch(TWO, {0: 900}, records={0: 10}))
    assert state.aligned_ms == 500
    assert state.after(batch(TWO, {0: 1000, 1: 700})).aligned_ms == 700


def test_gaps_in_a_partition_with_a_frontier_leave_the_frontier() -> None:
    assert Alignment({0: 500, 1: 450}, 450).after(batch(TWO, {0: 900}, records={0: 10})).aligned_ms == 450


def test_aligned_time_never_goes_back() -> None:
    """The idle partition 1 comes back with a backlog of older readings."""
    state = Alignment({0: 900, 1: 400}, 900).after(batch(TWO, {0: 950, 1: 420}))
    assert (state.aligned_ms, state.frontiers) == (900, {0: 950, 1: 420})


def test_a_frontier_never_goes_back() -> None:
    assert Alignment({0: 900}, 900).after(batch({0: (0, 1)}, {0: 100})).frontiers == {0: 900}


def test_a_reading_is_late_by_the_aligned_time_of_the_batch_before() -> None:
    assert Alignment({0: 60_000}, 50_000).late_before_ms(10) == 40_000
    assert Alignment().late_before_ms(10) is None


def held_in(last: list[int]):  # type: ignore[no-untyped-def]
    """Counts what panes with these ends would be held back."""
    return lambda at: sum(at is None or ms > at for ms in last)


def test_beyond_the_limit_of_held_panes_the_partition_furthest_behind_is_left_out() -> None:
    three = {0: (0, 10), 1: (0, 10), 2: (0, 10)}
    progress = batch(three, {0: 900, 1: 400, 2: 600})
    counted = held_in([700, 800, 900])
    assert Alignment().after(progress, max_held=3, held_after=counted) == Alignment({0: 900, 1: 400, 2: 600}, 400)
    left = Alignment().after(progress, max_held=2, held_after=counted)
    assert (left.aligned_ms, left.left_out) == (900, {1, 2})


def test_a_partition_that_was_left_out_is_waited_for_again_once_it_has_caught_up() -> None:
    """Meanwhile the others decide, so panes are not held back up to the limit again and again."""
    state = Alignment({0: 900, 1: 100, 2: 600}, 600, frozenset({1}))
    behind = state.after(batch({0: (0, 10), 1: (0, 10), 2: (0, 10)}, {0: 1000, 1: 500, 2: 700}))
    assert (behind.aligned_ms, behind.left_out) == (700, {1})
    caught_up = behind.after(batch({0: (0, 10), 1: (0, 10), 2: (0, 10)}, {0: 1100, 1: 750, 2: 800}))
    assert (caught_up.aligned_ms, caught_up.left_out) == (750, frozenset())
    assert behind.after(batch({1: (0, 10)}, {1: 600}, cut=False)).left_out == frozenset()


def test_beyond_the_limit_even_a_partition_of_gaps_is_left_out() -> None:
    progress = batch(TWO, {0: 900}, records={0: 10})
    left = Alignment().after(progress, max_held=0, held_after=held_in([900]))
    assert (left.aligned_ms, left.left_out) == (900, {1})


def row(partition: int, highest_s: int | None, aligned_s: int | None, *, gaps: int | None = 0) -> dict[str, object]:
    moments = [None if s is None else datetime.fromtimestamp(s, UTC) for s in (highest_s, aligned_s)]
    return {"kafka_partition": partition, "max_event_ts": moments[0], "gaps": gaps, "aligned_ts": moments[1]}


def test_a_start_finds_frontiers_and_aligned_time_in_audit() -> None:
    rows = [row(0, 50, 20), row(1, 20, 20), row(1, None, 30), row(0, 40, 30)]
    assert Alignment.restored(rows) == Alignment({0: 50_000, 1: 20_000}, 30_000)


def test_on_an_older_lake_the_largest_event_time_is_the_aligned_time() -> None:
    older = [row(0, 50, None, gaps=None), row(1, 20, None, gaps=None)]
    assert Alignment.restored(older) == Alignment({0: 50_000, 1: 20_000}, 50_000)
    assert Alignment.restored([*older, row(1, 70, 60)]) == Alignment({0: 50_000, 1: 70_000}, 60_000)


def test_a_batch_after_which_aligned_time_was_not_known_is_no_older_lake() -> None:
    """Partition 1 had nothing but gaps so far: what follows there may be older than 50."""
    assert Alignment.restored([row(0, 50, None), row(1, None, None)]) == Alignment({0: 50_000}, None)


def test_an_empty_audit_knows_nothing() -> None:
    assert Alignment.restored([row(0, None, None)]) == Alignment()
