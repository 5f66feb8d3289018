"""The MinIO server, built once from its pinned source by Go; needs no container and no package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from pipelines.errors import InfrastructureUnavailable
from pipelines.local import Say, quiet
from pipelines.local.cache import cache_dir, made_once, pinned
from pipelines.local.processes import run_logged, tail

_VERSION = re.compile(r"go(\d+)\.(\d+)")
_FETCHES_NEWER = (1, 21)  # from here on Go downloads the tool chain a module asks for
_SHOW_EVERY = 50


def build_minio(say: Say = quiet) -> Path:
    """The MinIO program; the first call downloads and compiles it, which takes a few minutes.

    Raises InfrastructureUnavailable when Go is missing or too old, or the build fails.
    """
    return made_once(_folder(), lambda empty: _install(empty, say), say=say) / "minio"


def why_no_minio() -> str | None:
    """Why `build_minio` would fail at once; None when MinIO is built already or Go is there to build it."""
    if _folder().is_dir():
        return None
    try:
        require_go()
    except InfrastructureUnavailable as missing:
        return str(missing)
    return None


def require_go() -> Path:
    """The `go` program. Raises InfrastructureUnavailable, with what to do, when it is missing or too old."""
    found = shutil.which("go")
    if found is None:
        raise InfrastructureUnavailable(f"Go not found in PATH: {_advice()}")
    version = go_version(Path(found))
    if version < _FETCHES_NEWER:
        raise InfrastructureUnavailable(f"{found} is Go {_spelled(version)}: {_advice()}")
    return Path(found)


def go_version(go: Path) -> tuple[int, int]:
    """Major and minor version; (0, 0) when the program does not say."""
    try:
        # Outside any module, so that no go.mod makes it answer for another tool chain.
        done = subprocess.run([go, "version"], capture_output=True, text=True, timeout=60, check=False, cwd="/")
    except (OSError, subprocess.TimeoutExpired):
        return (0, 0)
    return parse_go_version(done.stdout)


def parse_go_version(text: str) -> tuple[int, int]:
    """Major and minor version in what `go version` prints.

    >>> parse_go_version("go version go1.24.8 linux/amd64")
    (1, 24)
    >>> parse_go_version("no such thing")
    (0, 0)
    """
    found = _VERSION.search(text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _folder() -> Path:
    version = pinned("objectstore", "minio").rpartition("@")[2]
    return cache_dir() / "minio" / version


def _install(folder: Path, say: Say) -> None:
    go = require_go()
    say("building MinIO from source (some minutes, once)")
    log = folder.parent / "build.log"
    environment = _environment(folder, go_version(go))
    command = [str(go), "install", "-v", "-ldflags=-s -w", pinned("objectstore", "minio")]
    steps = 0

    def count(line: str) -> None:
        nonlocal steps
        steps += 1
        if steps % _SHOW_EVERY == 0:
            say(f"MinIO: {steps} steps of downloading and compiling done")

    code = run_logged(command, log=log, on_line=count, env=environment, cwd=folder)
    if code != 0 or not (folder / "minio").is_file():
        last = tail(log, 1).strip() or "no output"
        raise InfrastructureUnavailable(
            f"MinIO could not be built: {last} (whole log: {log}); `--store local` needs no object store"
        )


def _environment(folder: Path, version: tuple[int, int]) -> dict[str, str]:
    environment = {**os.environ, "GOBIN": str(folder), "CGO_ENABLED": "0"}  # no C compiler needed
    if version < parse_go_version(f"go{pinned('objectstore', 'go')}"):
        environment["GOTOOLCHAIN"] = "auto"  # some distributions forbid the download of a newer tool chain
    return environment


def _advice() -> str:
    return (
        f"the object store is built by Go {_spelled(_FETCHES_NEWER)} or newer, install it with "
        "`sudo apt-get install golang-go` (Debian 12: from bookworm-backports) or `brew install go`; "
        "`--store local` needs none of it"
    )


def _spelled(version: tuple[int, int]) -> str:
    return ".".join(str(part) for part in version)
