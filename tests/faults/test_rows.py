"""The short form of the fault matrix, as CI runs it: `pytest -m faults`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.faults.all_rows import load
from tests.faults.bench import Bench
from tests.faults.matrix import ROWS, WAITING, in_order, try_row

load()
SHORT = in_order(number for number, one in ROWS.items() if one.in_short)
SEED = int(os.environ.get("FAULTS_SEED", "6"))

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


def say(line: str) -> None:
    """Progress, shown with -s or when the row fails."""
    sys.stderr.write(line + "\n")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One broker, one store and two pipelines for all rows."""
    with Bench(tmp_path_factory.mktemp("faults"), SEED, say, kills=3, short=True) as made:
        yield made


@pytest.mark.parametrize("number", [one.number for one in SHORT], ids=[f"row-{one.number}" for one in SHORT])
def test_the_row_holds(number: int, bench: Bench, request: pytest.FixtureRequest) -> None:
    if number in WAITING:
        request.applymarker(pytest.mark.xfail(reason=WAITING[number], strict=True))
    result = try_row(ROWS[number], bench)
    assert result["held"], f"row {number}, {result['fault']}: {result['reason']} (seed {SEED})"
