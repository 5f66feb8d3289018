"""A plan is there whole or not at all, once per batch, in a folder as in a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from pipelines.lake.parquet import DataFile
from pipelines.lake.store import object_store
from pipelines.readings.held import HeldFile
from pipelines.readings.plan import Plan, Plans
from pipelines.settings import Store

FILE = DataFile("event_date=2026-03-01/part-1.parquet", 10, "2026-03-01", '{"numRecords": 3}', 5)
FIGURES = {"kafka_partition": 0, "records_in": 4, "rejected": 1, "rejected_by_reason": {"empty_value": 1}}
PLAN = Plan(
    "generation", 7, {0: (5, 9), 11: (0, 0)}, True, 1_000, "hash", {"readings": [FILE]}, [FIGURES],
    [HeldFile("held/1", 2, 10, 20)],
)  # fmt: skip


@pytest.fixture(params=["folder", "store"])
def plans(request: pytest.FixtureRequest, tmp_path: Path) -> Plans:
    store: Any = object_store(str(tmp_path / "checkpoint"), Store()) if request.param == "folder" else MemoryStore()
    return Plans(store, "plans")


def test_what_is_read_is_what_was_written(plans: Plans) -> None:
    assert plans.newest() is None
    assert plans.read(7) is None
    plans.create(PLAN)
    assert plans.read(7) == plans.newest() == PLAN
    assert (PLAN.records, PLAN.rejected) == (4, 1)


def test_another_plan_of_a_batch_is_refused_and_the_same_one_is_not(plans: Plans) -> None:
    """The same one: the reply to the first request was lost, and the client has sent it again."""
    plans.create(PLAN)
    plans.create(PLAN)
    with pytest.raises(FileExistsError):
        plans.create(replace(PLAN, aligned_ms=2_000))
    assert plans.read(7) == PLAN


def test_the_newest_plan_is_kept_when_the_others_go(plans: Plans) -> None:
    for batch in (8, 9, 10):
        plans.create(replace(PLAN, batch=batch))
    plans.keep_newest()
    assert (plans.read(8), plans.read(9)) == (None, None)
    assert plans.newest() == replace(PLAN, batch=10)


def test_a_draft_that_a_crash_left_is_not_a_plan(tmp_path: Path) -> None:
    plans = Plans(object_store(str(tmp_path), Store()), "plans")
    plans.create(PLAN)
    (tmp_path / "plans" / ".8.json.abc.draft").write_text('{"form', encoding="utf-8")
    assert plans.newest() == PLAN


@pytest.mark.parametrize("text", ["", "{", "{}", '{"format": 99}', '{"format": 1}'])
def test_a_damaged_plan_is_not_taken_for_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "plans").mkdir()
    (tmp_path / "plans" / "7.json").write_text(text, encoding="utf-8")
    with pytest.raises((ValueError, KeyError, TypeError)):
        Plans(object_store(str(tmp_path), Store()), "plans").read(7)
