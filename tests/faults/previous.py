"""The version before this one, out of the repository's history: what it leaves must be upgraded."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.faults.expect import require
from tests.integration.support import ROOT

PREVIOUS = "e759490"
"""The last commit of the first edition."""


def previous_version(folder: Path) -> Path:
    """Its files, in a folder that is given to PYTHONPATH. Raises NotHeld in a clone without its history."""
    if folder.exists():
        return folder
    archive = folder.with_suffix(".tar")
    made = subprocess.run(
        ["git", "-C", ROOT, "archive", "--output", archive, PREVIOUS], capture_output=True, text=True, check=False
    )
    require(made.returncode == 0, f"no commit {PREVIOUS} in this clone: {made.stderr.strip()}")
    folder.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    return folder
