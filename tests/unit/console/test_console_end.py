"""The console ends in order on both signals while a page is open: no traceback, and the exit code of an interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pipelines.console.serve import READY

LIMIT_S = 30


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("page_is_open", [True, False])
def test_a_signal_ends_the_console(number: signal.Signals, page_is_open: bool, tmp_path: Path) -> None:
    settings = ["console.port=0", "kafka.bootstrap_servers=127.0.0.1:1", f"lake.root={tmp_path / 'lake'}"]
    assignments = [word for one in settings for word in ("--set", one)]
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines", "console", *assignments],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert child.stderr is not None
        ready = next(line for line in child.stderr if READY in line)
        url = ready.split()[-1]
        with urllib.request.urlopen(f"{url}api/events" if page_is_open else url, timeout=LIMIT_S) as page:
            page.readline()
            child.send_signal(number)
            said = child.communicate(timeout=LIMIT_S)[1]
    finally:
        child.kill()
    assert child.returncode == 130
    assert "Traceback" not in said
    assert "Cancel" not in said
    assert said.rstrip().endswith("gridwatch: interrupted")
