"""Notebooks are kept without outputs, define nothing the pipeline has, and name no machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return found


def test_the_three_notebooks_are_there() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["01-explore-archive", "02-incidents-and-feeders", "03-tune-thresholds"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_stored(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_says_what_it_does_and_names_no_place_of_a_machine(path: Path) -> None:
    assert cells(path)[0]["cell_type"] == "markdown"
    text = path.read_text(encoding="utf-8")
    assert not [word for word in ("/home/", "/tmp/", "/work/", "C:\\") if word in text]
