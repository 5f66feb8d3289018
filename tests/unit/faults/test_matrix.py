"""The matrix is complete, and its page says what it does."""

from __future__ import annotations

import re
from pathlib import Path

from tests.faults.all_rows import load
from tests.faults.matrix import LAST, ROWS, WAITING, in_order

load()
PAGE = (Path(__file__).parents[3] / "docs" / "faults.md").read_text(encoding="utf-8")


def test_every_row_of_the_design_is_there() -> None:
    assert sorted(ROWS) == list(range(1, 31))
    short = {1, 2, 3, 6, 7, 8, 11, 12, 14, 17, 18, 20, 21, 25, 26, 27}
    assert {number for number, one in ROWS.items() if one.in_short} == short
    assert set(WAITING) <= set(ROWS)


def test_rows_that_spoil_the_shared_topics_run_last() -> None:
    assert [one.number for one in in_order(range(1, 31))][-2:] == list(LAST)


def test_the_page_has_the_rows_as_they_are() -> None:
    found = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \| (yes.*?)? ?\|$", PAGE, re.MULTILINE)
    assert [(int(n), fault, expected, bool(ci)) for n, fault, expected, ci in found] == [
        (one.number, one.fault, one.expected, one.in_short) for _, one in sorted(ROWS.items())
    ]
