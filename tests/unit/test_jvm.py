"""What it means that Java is gone: out of memory is said as such, since another start alone does not cure it."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines.errors import InfrastructureUnavailable
from pipelines.jobs.failures import OutOfMemory
from pipelines.jobs.jvm import why_gone


def session_of(process: object) -> Any:
    """What `why_gone` looks at of a session whose JVM is this process."""
    return SimpleNamespace(sparkContext=SimpleNamespace(_gateway=SimpleNamespace(proc=process)))


@pytest.mark.parametrize(("code", "kind"), [(3, OutOfMemory), (137, InfrastructureUnavailable)])
def test_the_exit_code_of_java_says_why_it_ended(code: int, kind: type) -> None:
    ended = subprocess.Popen([sys.executable, "-c", f"raise SystemExit({code})"])
    ended.wait()
    problem = why_gone(session_of(ended), ConnectionRefusedError())
    assert type(problem) is kind
    assert problem.exit_code == 4
    assert ("pipeline.driver_memory" in str(problem)) == (kind is OutOfMemory)


def test_a_java_that_runs_or_is_our_parent_just_does_not_answer() -> None:
    running = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        for process in (running, None):
            assert "does not answer any more: BrokenPipeError" in str(why_gone(session_of(process), BrokenPipeError()))
    finally:
        running.kill()
        running.wait()
