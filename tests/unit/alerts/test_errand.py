"""Something slow beside the judging: nobody waits for it, and what it raises is raised where it was asked for."""

from __future__ import annotations

import threading

import pytest

from pipelines.alerts.errand import Errand
from pipelines.local.processes import wait_until


def test_its_result_is_there_once_it_is_done_and_only_once() -> None:
    may_end, errand = threading.Event(), Errand[int]("test")
    errand.start(lambda: int(may_end.wait(10)))
    assert errand.take() == []
    assert errand.is_out
    may_end.set()
    results: list[int] = []
    assert wait_until(lambda: results.extend(errand.take()) or not errand.is_out, 5)
    assert results == [1]


def test_what_it_raises_is_raised_by_take() -> None:
    errand = Errand[int]("test")
    errand.start(lambda: 1 // 0)

    def taken() -> bool:
        errand.take()
        return False

    with pytest.raises(ZeroDivisionError):
        wait_until(taken, 5)
    assert not errand.is_out
