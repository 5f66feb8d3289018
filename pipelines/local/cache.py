"""Where downloaded and built parts are kept, and how each is made exactly once."""

from __future__ import annotations

import fcntl
import os
import shutil
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.conf_files import conf_text
from pipelines.errors import SettingsError
from pipelines.local import Say, quiet


def cache_dir() -> Path:
    """GRIDWATCH_CACHE; else `.cache` of the checkout this package runs from; else `~/.cache/gridwatch`."""
    if chosen := os.environ.get("GRIDWATCH_CACHE"):
        return Path(chosen).expanduser().resolve()
    project = Path(__file__).resolve().parents[2]
    if (project / "pyproject.toml").is_file() and (project / "conf").is_dir():
        return project / ".cache"
    return Path.home() / ".cache" / "gridwatch"


def pinned(part: str, key: str) -> str:
    """One value of `conf/local.toml`, such as the version of a part. Raises SettingsError when missing."""
    conf = tomllib.loads(conf_text("local.toml"))
    try:
        return str(conf[part][key])
    except KeyError as missing:
        raise SettingsError(f"conf/local.toml has no [{part}] {key}") from missing


def made_once(folder: Path, make: Callable[[Path], None], *, say: Say = quiet) -> Path:
    """`folder`, filled by `make` the first time: a second process waits for the first and then uses its work.

    `make` fills a folder beside it, renamed once `make` has returned: `folder` exists only when complete.
    A process killed in between leaves the other folder behind, which the next call clears away.
    """
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(folder.name + ".lock"), say):
        if not folder.is_dir():
            _fill(folder, make)
    return folder


def _fill(folder: Path, make: Callable[[Path], None]) -> None:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    make(partial)
    partial.rename(folder)


@contextmanager
def _locked(path: Path, say: Say) -> Iterator[None]:
    """Hold an exclusive lock on `path`; the kernel gives it back when the holder dies."""
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that prepares {path.stem}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
