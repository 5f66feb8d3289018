"""Where the files of `conf/` are: in a checkout, in an installed wheel, or inside the zip given to spark-submit."""

from __future__ import annotations

import os
import tempfile
from importlib.resources import files
from pathlib import Path
from typing import Any


def conf_path(name: str) -> Any:
    """The readable resource `conf/<name>` (a `Path`, or a path inside a zip).

    `GRIDWATCH_CONF_DIR` wins; then the copy inside an installed wheel; then the folder beside the package.
    Raises FileNotFoundError when none of them holds the file.
    """
    package: Any = files("pipelines")
    candidates: list[Any] = [package / "_conf", package.parent / "conf"]
    if override := os.environ.get("GRIDWATCH_CONF_DIR"):
        candidates.insert(0, Path(override))
    for folder in candidates:
        found = folder.joinpath(name)
        if found.is_file():
            return found
    raise FileNotFoundError(f"conf/{name} is in none of {', '.join(str(c) for c in candidates)}")


def conf_text(name: str) -> str:
    """Text of `conf/<name>`, wherever it lives."""
    return str(conf_path(name).read_text(encoding="utf-8"))


def conf_folder_for(*names: str) -> Path:
    """A folder on disk that holds the named conf files: the real one, or a temporary copy when they are zipped.

    The JVM and other programs cannot read inside our zip.
    """
    first = conf_path(names[0])
    if isinstance(first, Path):
        return first.parent
    folder = Path(tempfile.mkdtemp(prefix="gridwatch-conf-"))
    for name in names:
        (folder / name).write_text(conf_text(name), encoding="utf-8")
    return folder
