"""A lowered priority reaches the process and what it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, subprocess, sys
from pipelines.local.priority import lower_priority
lower_priority(int(sys.argv[1]))
child = "import os; print(os.getpriority(os.PRIO_PROCESS, 0))"
print(os.getpriority(os.PRIO_PROCESS, 0), subprocess.check_output([sys.executable, "-c", child], text=True))
"""


@pytest.mark.parametrize("asked", [0, 19])
def test_niceness_is_set_once_and_inherited(asked: int) -> None:
    """In a session of its own: the group of ours keeps its priority."""
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    command = [sys.executable, "-c", PROGRAM, str(asked)]
    said = subprocess.check_output(command, text=True, start_new_session=True)
    assert [int(word) for word in said.split()] == [max(ours, asked)] * 2
