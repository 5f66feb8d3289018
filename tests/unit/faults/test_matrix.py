"""The matrix is complete, and its page says what it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.all_rows import load
from tests.faults.expect import bring_about, require
from tests.faults.matrix import ATTEMPTS, LAST, ROWS, WAITING, Row, in_order, try_row

load()
PAGE = (Path(__file__).parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_row_of_the_design_is_there() -> None:
    assert sorted(ROWS) == [*range(1, 37)]
    short = {1, 2, 3, 6, 7, 8, 12, 14, 17, 18, 20, 21, 26, 27, 33}
    assert {number for number, one in ROWS.items() if one.in_short} == short
    assert set(WAITING) <= set(ROWS)


def test_rows_that_spoil_the_shared_topics_run_last() -> None:
    assert [one.number for one in in_order(range(1, 31))][-2:] == list(LAST)


def test_the_page_has_the_rows_as_they_are() -> None:
    found = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (yes.*?)? ?\|$", PAGE, re.MULTILINE)
    assert [(int(n), fault, expected, bool(ci)) for n, fault, expected, ci in found] == [
        (one.number, one.fault, one.expected, one.in_short) for _, one in sorted(ROWS.items())
    ]


class EmptyBench:
    """What `try_row` needs of a bench, without parts."""

    def __init__(self) -> None:
        self.forgotten = 0

    @contextmanager
    def healed(self) -> Iterator[None]:
        yield

    def forget_shared(self) -> None:
        self.forgotten += 1

    def say(self, line: str) -> None:
        pass


def tried(run: Any) -> tuple[dict[str, Any], EmptyBench]:
    bench: Any = EmptyBench()
    return try_row(Row(1, "fault", "expected", False, run), bench), bench


@pytest.mark.parametrize("failures", [0, 1, ATTEMPTS - 1, ATTEMPTS])
def test_a_fault_that_did_not_come_about_is_tried_again(failures: int) -> None:
    left = [False] * failures + [True] * ATTEMPTS

    def run(_: Any) -> dict[str, Any]:
        bring_about(left.pop(0), "too late")
        return {"figure": 1}

    result, bench = tried(run)
    assert result["held"] == (failures < ATTEMPTS)
    assert result["not_tried"] == ["too late"] * failures
    assert bench.forgotten == failures


def test_what_a_row_is_to_show_has_one_try() -> None:
    calls = []

    def run(_: Any) -> dict[str, Any]:
        calls.append(1)
        require(len(calls) > 1, "a reading is lost")
        return {}

    result, _ = tried(run)
    assert (result["held"], result["reason"], len(calls)) == (False, "a reading is lost", 1)
