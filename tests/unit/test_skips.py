"""Where CI names the skips it allows, every other skip is a failure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
import pytest

def test_passes(): pass

@pytest.mark.skip(reason="no Go here")
def test_skipped(): pass

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure(): raise ValueError
"""
SKIPS_ITSELF = 'import pytest\npytest.skip("no Java here", allow_module_level=True)\n'


def run_suite(folder: Path, content: str, allowed: str | None) -> subprocess.CompletedProcess[str]:
    (folder / "test_suite.py").write_text(content, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "GRIDWATCH_ALLOWED_SKIPS"}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if allowed is None else {"GRIDWATCH_ALLOWED_SKIPS": allowed})
    command = [sys.executable, "-m", "pytest", "-p", "tests.skips", "-c", os.devnull, "--rootdir", "."]
    return subprocess.run(
        [*command, "test_suite.py"], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("content", [SUITE, SKIPS_ITSELF])
def test_an_unnamed_skip_fails_and_says_why(tmp_path: Path, content: str) -> None:
    done = run_suite(tmp_path, content, allowed="")
    assert done.returncode != 0
    assert "GRIDWATCH_ALLOWED_SKIPS does not name it" in done.stdout
    assert "no Go here" in done.stdout or "no Java here" in done.stdout


def test_a_named_skip_passes(tmp_path: Path) -> None:
    done = run_suite(tmp_path, SUITE, allowed="test_suite.py::test_other test_suite.py::test_skipped")
    assert done.returncode == 0
    assert "1 passed, 1 skipped, 1 xfailed" in done.stdout


def test_without_the_variable_skips_are_skips(tmp_path: Path) -> None:
    assert run_suite(tmp_path, SUITE, allowed=None).returncode == 0
