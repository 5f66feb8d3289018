"""Held panes: written once, released by aligned time alone, removed when no plan names them."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from obstore.store import LocalStore, MemoryStore, ObjectStore

from pipelines.errors import DataRefused
from pipelines.readings.held import HeldPanes, count_after, split_panes, still_held
from pipelines.windows.panes import empty_panes

MINUTE, HOUR = 60_000, 3_600_000


def panes(*last_ms: int, meter: str = "m1") -> pl.DataFrame:
    """Panes of a minute with one reading each."""
    rows = [
        {"meter_id": meter, "pane_start": moment(ms // MINUTE * MINUTE), "n": 1, "last_ts": moment(ms)}
        for ms in last_ms
    ]
    return pl.concat([empty_panes(), pl.DataFrame(rows, schema_overrides=empty_panes().schema)], how="diagonal")


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def last(found: pl.DataFrame) -> list[int]:
    """When the panes end, in order."""
    return sorted(found["last_ts"].dt.epoch("ms"))


@pytest.fixture(params=["folder", "memory"])
def held(request: pytest.FixtureRequest, tmp_path: Path) -> HeldPanes:
    store: ObjectStore = LocalStore(tmp_path) if request.param == "folder" else MemoryStore()
    return HeldPanes(store, "generation-2/held")


def test_a_pane_that_ends_at_aligned_time_is_released() -> None:
    released, kept = split_panes(panes(10, 20, 30), 20)
    assert (last(released), last(kept)) == ([10, 20], [30])


def test_without_an_aligned_time_all_is_held() -> None:
    released, kept = split_panes(panes(10), None)
    assert (last(released), last(kept)) == ([], [10])


def test_held_panes_come_out_as_aligned_time_moves_and_each_once(held: HeldPanes) -> None:
    files = held.hold(panes(HOUR - 5, HOUR + 5, HOUR + 15, 2 * HOUR + 5), 7)
    assert [(file.rows, file.from_ms, file.to_ms) for file in files] == [
        (1, HOUR - 5, HOUR - 5), (2, HOUR + 5, HOUR + 15), (1, 2 * HOUR + 5, 2 * HOUR + 5),
    ]  # fmt: skip
    first = held.release(files, after_ms=None, up_to_ms=HOUR + 5)
    assert last(first) == [HOUR - 5, HOUR + 5]
    left = still_held(files, HOUR + 5)
    assert left == files[1:]
    assert last(held.release(left, after_ms=HOUR + 5, up_to_ms=3 * HOUR)) == [HOUR + 15, 2 * HOUR + 5]
    assert still_held(left, 3 * HOUR) == []


def test_release_gives_the_panes_back_as_they_were(held: HeldPanes) -> None:
    kept = panes(5, 15, meter="m2")
    files = held.hold(kept, 0)
    assert held.release(files, after_ms=None, up_to_ms=20).sort("last_ts").equals(kept)


def test_nothing_held_makes_no_file_and_releases_no_row(held: HeldPanes) -> None:
    assert held.hold(empty_panes(), 0) == []
    assert held.release([], after_ms=None, up_to_ms=5).equals(empty_panes())
    assert held.release([], after_ms=None, up_to_ms=None).equals(empty_panes())


def test_random_batches_release_every_pane_once_and_rewrite_no_file(held: HeldPanes) -> None:
    rng = random.Random(11)
    files, sent, released, aligned = [], [], [], None
    for number in range(40):
        new = panes(*(rng.randrange(6 * HOUR) for _ in range(rng.randrange(5))))
        sent += last(new)
        reached = max(aligned or 0, number * HOUR // 7) if rng.random() < 0.3 else aligned
        out, kept = split_panes(new, reached)
        released += last(held.release(files, after_ms=aligned, up_to_ms=reached)) + last(out)
        before = set(files)
        files = [*still_held(files, reached), *held.hold(kept, number)]
        assert {file.name for file in files if file not in before}.isdisjoint(file.name for file in before)
        held.tidy(files)
        aligned = reached
    released += last(held.release(files, after_ms=aligned, up_to_ms=6 * HOUR))
    assert sorted(released) == sorted(sent)


def test_the_limit_counts_new_panes_and_files(held: HeldPanes) -> None:
    files = held.hold(panes(10, 20, HOUR + 10), 0)
    assert count_after(panes(15, 25), files, 15) == 4
    assert count_after(panes(15, 25), files, 20) == 2
    assert count_after(panes(15, 25), files, None) == 5


def test_files_that_the_newest_plan_does_not_name_are_removed(held: HeldPanes) -> None:
    old, new = held.hold(panes(10), 0), held.hold(panes(20), 1)
    assert held.tidy(new) == 1
    assert last(held.release(new, after_ms=None, up_to_ms=50)) == [20]
    with pytest.raises(DataRefused, match="new-generation"):
        held.release(old, after_ms=None, up_to_ms=50)
    assert held.tidy(new) == 0


def test_a_damaged_file_is_refused(held: HeldPanes) -> None:
    files = held.hold(panes(10), 0)
    held.store.put(files[0].name, b"PAR1 not")
    with pytest.raises(DataRefused, match="cannot be read"):
        held.release(files, after_ms=None, up_to_ms=50)
