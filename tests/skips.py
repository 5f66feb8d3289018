"""Pytest plugin: where GRIDWATCH_ALLOWED_SKIPS is set, a skip it does not name is a failure.

CI sets it, so that a missing Go, Java or package cannot turn a test off unseen. One test id a line; an empty
value allows none; without the variable skips are skips.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)
VARIABLE = "GRIDWATCH_ALLOWED_SKIPS"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test, in its set-up or its body; an expected failure (xfail) is none."""
    report = yield
    return report if hasattr(report, "wasxfail") else _judged(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module that skips itself as a whole."""
    return _judged((yield))


def _judged(report: Report) -> Report:
    allowed = os.environ.get(VARIABLE)
    if report.skipped and allowed is not None and report.nodeid not in allowed.split():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid}: {reason} ({VARIABLE} does not name it)"
    return report
