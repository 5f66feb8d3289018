"""Ctrl-C ends the demo quickly, with everything it has started."""

from __future__ import annotations

import time

import pytest

from pipelines.local.processes import Child
from tests.integration.support import (
    Place,
    explain,
    interrupt,
    marked_processes,
    none_left,
    stopped,
    wait_for_end,
    wait_for_text,
)

LIMIT_S = 30


@pytest.mark.parametrize(
    ("moment", "programs"),
    [
        pytest.param("starting the pipeline", ["kafka.Kafka"], id="while Spark starts"),
        pytest.param("archived", ["kafka.Kafka", "SparkSubmit", "generator"], id="amid the traffic"),
    ],
)
def test_ctrl_c_ends_the_demo_with_all_its_programs(nowhere: Place, moment: str, programs: list[str]) -> None:
    run_dir = nowhere.folder / "run"
    arguments = ("--seconds", "60", "--rate", "500", "--meters", "100", "--dir", str(run_dir))
    with stopped(nowhere.gridwatch("demo", "demo", *arguments), grace_s=60) as demo:
        wait_for_text(demo, moment, 180)
        running = " ".join(marked_processes(nowhere.mark).values())
        assert all(program in running for program in programs), running
        assert_ends(demo)
    assert none_left(nowhere.mark), marked_processes(nowhere.mark)


def assert_ends(demo: Child) -> None:
    began = time.monotonic()
    interrupt(demo)
    said = wait_for_end(demo, LIMIT_S + 15, code=130)
    assert time.monotonic() - began < LIMIT_S, explain(demo, "took too long")
    assert "gridwatch: interrupted" in said
    assert "Traceback" not in said
