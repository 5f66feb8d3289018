"""The Kafka broker's jars, resolved once by the Ivy inside pyspark and never put on Spark's class path."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.local import Say, quiet
from pipelines.local.cache import cache_dir as cache_dir
from pipelines.local.cache import made_once, pinned
from pipelines.local.java import require_java
from pipelines.local.processes import run_logged, tail
from pipelines.local.spark_home import spark_home

# Kafka's module names no binding for its logging API, so it would log nothing. pyspark carries one, for the
# newer API version, which serves callers of the older one.
_FROM_PYSPARK = ("slf4j-api-2*.jar", "log4j-slf4j2-impl-*.jar")
_REPLACED = "slf4j-api-1*.jar"
_SHOW_EVERY = 15


def broker_jars(say: Say = quiet) -> tuple[Path, ...]:
    """The broker's class path, in a fixed order; the first call downloads 44 MB.

    Raises InfrastructureUnavailable when the download fails.
    """
    folder = made_once(kafka_dir() / "jars", lambda empty: _resolve(empty, say), say=say)
    return tuple(sorted(folder.glob("*.jar")))


def kafka_dir() -> Path:
    """Folder of the pinned Kafka version in the cache."""
    _, module, version = kafka_coordinates()
    return cache_dir() / "kafka" / f"{module}-{version}"


def kafka_coordinates() -> tuple[str, str, str]:
    """Group, module and version of `conf/local.toml`."""
    coordinates = pinned("broker", "kafka")
    parts = coordinates.split(":")
    if len(parts) != 3:
        raise SettingsError(f"conf/local.toml [broker] kafka is {coordinates!r}: must be group:module:version")
    return parts[0], parts[1], parts[2]


def ivy_settings(repository: str) -> str:
    """Ivy settings that read every module from one repository of Maven's layout."""
    return (
        '<ivysettings><settings defaultResolver="main"/><resolvers>'
        f'<ibiblio name="main" m2compatible="true" root={quoteattr(repository)}/>'
        "</resolvers></ivysettings>\n"
    )


def retrieve(folder: Path, coordinates: str, say: Say = quiet) -> None:
    """Download a module `group:module:version` and what it needs into `folder`.

    Raises InfrastructureUnavailable when that fails; Ivy's words are in `resolve.log` beside the folder.
    """
    with tempfile.TemporaryDirectory() as settings:  # a mirror's address may hold a password: not kept
        command = _ivy_command(folder, Path(settings), coordinates.split(":"))
        _run_ivy(command, folder.parent / "resolve.log", coordinates.split(":")[1], say)


def _resolve(folder: Path, say: Say) -> None:
    say("downloading the Kafka broker (44 MB, once)")
    retrieve(folder, ":".join(kafka_coordinates()), say)
    for old in folder.glob(_REPLACED):
        old.unlink()
    for pattern in _FROM_PYSPARK:
        for jar in _pyspark_jars().glob(pattern):
            shutil.copy2(jar, folder)


def _ivy_command(folder: Path, settings_dir: Path, coordinates: Sequence[str]) -> list[str]:
    ivy = next(iter(_pyspark_jars().glob("ivy-*.jar")), None)
    if ivy is None:
        raise InfrastructureUnavailable(f"no Ivy jar in {_pyspark_jars()}: install pyspark again with `make install`")
    command = [str(require_java()), "-jar", str(ivy), "-confs", "default", "-cache", str(cache_dir() / "ivy")]
    if repository := os.environ.get("DEFAULT_ARTIFACT_REPOSITORY"):  # the variable Spark itself obeys
        settings = settings_dir / "ivysettings.xml"
        settings.write_text(ivy_settings(repository), encoding="utf-8")
        command += ["-settings", str(settings)]
    # With the type `jar` alone the jars published as bundles, such as scala-logging, are left out.
    command += ["-types", "jar", "bundle", "-dependency", *coordinates]
    return [*command, "-retrieve", str(folder / "[artifact]-[revision](-[classifier]).[ext]")]


def _run_ivy(command: list[str], log: Path, module: str, say: Say) -> None:
    found = 0

    def count(line: str) -> None:
        nonlocal found
        if "[SUCCESSFUL ]" in line or line.startswith("\tfound "):
            found += 1
            if found % _SHOW_EVERY == 0:
                say(f"{module}: {found} steps done")

    if run_logged(command, log=log, on_line=count) != 0:
        raise InfrastructureUnavailable(
            f"the jars of {module} could not be downloaded: {_reason(log)} (whole log: {log}); "
            "check the network, or set DEFAULT_ARTIFACT_REPOSITORY to a mirror"
        )


def _reason(log: Path) -> str:
    """The first line in which Ivy complains."""
    lines = log.read_text(encoding="utf-8").splitlines()
    complaints = (line.strip() for line in lines if "ERROR" in line or "not found" in line)
    return next(complaints, tail(log, 1).strip() or "no output")


def _pyspark_jars() -> Path:
    return spark_home() / "jars"
