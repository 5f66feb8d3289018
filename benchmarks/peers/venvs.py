"""Each peer in an environment of its own: their pins contradict ours, and the product must not feel them.

PyFlink 2.2 wants pyarrow below 17 and another py4j than Spark, Quix Streams an older pydantic-settings.
"""

from __future__ import annotations

import hashlib
import sys
import tomllib
from pathlib import Path

from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.local import Say
from pipelines.local.cache import cache_dir, made_once
from pipelines.local.processes import run_logged, tail

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def requirement(package: str) -> str:
    """The pin of a package in the extra `peers` of pyproject.toml."""
    extras = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    found = [pin for pin in extras["peers"] if pin.partition("==")[0] == package]
    if len(found) != 1:
        raise SettingsError(f"pyproject.toml, extra peers: {package} must stand there once, with ==")
    return str(found[0])


def peer_python(package: str, say: Say) -> Path:
    """The Python of a virtual environment with the package; the first call installs it.

    Raises InfrastructureUnavailable with pip's last line when it cannot be installed.
    """
    pin = requirement(package)
    constraints = Path(__file__).with_name(f"{package}-constraints.txt")
    digest = hashlib.sha256(f"{pin}|{sys.version}|{constraints.read_text(encoding='utf-8')}".encode()).hexdigest()[:8]
    folder = cache_dir() / "benchmarks" / f"{pin.replace('==', '-')}-{digest}"
    made_once(folder, lambda empty: _install(empty, pin, constraints, say), say=say)
    return folder / "bin" / "python"


def _install(folder: Path, pin: str, constraints: Path, say: Say) -> None:
    log = folder.with_name(f"{pin}.log")
    _run([sys.executable, "-m", "venv", str(folder)], log, pin)
    say(f"installing {pin} into its own environment (once)")
    command = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    _run([*command, "-c", str(constraints), pin], log, pin)


def _run(command: list[str], log: Path, pin: str) -> None:
    if run_logged(command, log=log, on_line=lambda line: None):
        raise InfrastructureUnavailable(f"{pin} could not be installed: {tail(log, 1)}; see {log}")
