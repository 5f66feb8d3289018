"""Tables that a real-time query joins: rows of the latest refresh, and code that does not change with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import Row
from pyspark.sql import functions as F

from pipelines.jobs.context import Run
from pipelines.jobs.live_table import LiveTable
from pipelines.small_tables import as_arrow, replace_rows
from pipelines.tables import BASELINES
from tests.factories import at
from tests.streaming.conftest import MakeRun


@pytest.fixture
def run(make_run: MakeRun, tmp_path: Path) -> Run:
    """An empty lake."""
    return make_run(tmp_path)


def put(run: Run, *meters: str) -> None:
    """A baseline for each of the meters, in place of all others."""
    rows = [(meter, at(0), at(300), 9, 230.0, 1.0, None) for meter in meters]
    replace_rows(as_arrow(rows, BASELINES), run.settings, BASELINES)


def joined(run: Run, live: LiveTable, more_v: int) -> list[tuple[str, float | None]]:
    """Two meters and their mean plus `more_v`, as a batch that is planned now finds it.

    The number stands in the code's text: code of another number has been compiled by nobody else.
    """
    meters = run.spark.createDataFrame([Row(meter_id="a"), Row(meter_id="b")])
    found = meters.join(live.frame.hint("broadcast"), "meter_id", "left")
    return sorted((row[0], row[1]) for row in found.select("meter_id", F.col("mean_v") + more_v).collect())


def compiled(run: Run) -> int:
    """Generated classes that this process has compiled."""
    jvm: Any = run.spark.sparkContext._jvm
    return int(jvm.org.apache.spark.metrics.source.CodegenMetrics.METRIC_COMPILATION_TIME().getCount())


def test_a_batch_has_the_rows_of_the_latest_refresh(run: Run) -> None:
    live = LiveTable(run.spark, run.settings, BASELINES)
    assert joined(run, live, 1) == [("a", None), ("b", None)]
    put(run, "a")
    assert joined(run, live, 1) == [("a", None), ("b", None)]
    assert live.refresh()
    assert not live.refresh()
    assert joined(run, live, 1) == [("a", 231.0), ("b", None)]


def test_the_first_rows_of_a_table_need_no_new_code(run: Run) -> None:
    live = LiveTable(run.spark, run.settings, BASELINES)
    joined(run, live, 2)
    before = compiled(run)
    put(run, "a", "b")
    live.refresh()
    assert joined(run, live, 2) == [("a", 232.0), ("b", 232.0)]
    assert compiled(run) == before
