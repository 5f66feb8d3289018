"""Our few Java classes: compiled once with the Eclipse compiler, because a machine may have a JRE only."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path

from pipelines.errors import InfrastructureUnavailable
from pipelines.local import Say, quiet
from pipelines.local.cache import cache_dir, made_once, pinned
from pipelines.local.jars import broker_jars, retrieve
from pipelines.local.java import require_java

SOURCES = Path(__file__).parent / "java"


def retrieved(key: str, say: Say = quiet) -> tuple[Path, ...]:
    """The jars of `[benchmarks] <key>` in `conf/local.toml`, downloaded once."""
    coordinates = pinned("benchmarks", key)
    folder = cache_dir() / "benchmarks" / coordinates.replace(":", "-")
    made_once(folder, lambda empty: retrieve(empty, coordinates, say), say=say)
    return tuple(sorted(folder.glob("*.jar")))


def compiled(name: str, libraries: Sequence[Path] | None = None) -> list[Path]:
    """Class path of `benchmarks/java/<name>.java`, compiled against `libraries` (default: the broker's jars).

    Raises InfrastructureUnavailable with the compiler's words when it does not compile.
    """
    jars = list(broker_jars() if libraries is None else libraries)
    source = SOURCES / f"{name}.java"
    digest = hashlib.sha256("|".join([source.read_text(encoding="utf-8"), *map(str, jars)]).encode()).hexdigest()[:12]
    folder = made_once(cache_dir() / "benchmarks" / f"{name}-{digest}", lambda empty: _compile(source, jars, empty))
    return [folder, *jars]


def java_class(class_path: Sequence[Path], main: str, *, heap_mb: int) -> list[str]:
    """Command line of a main class; its arguments follow."""
    paths = ":".join(str(path) for path in class_path)
    return [str(require_java()), f"-Xmx{heap_mb}m", "-XX:+UseParallelGC", "-cp", paths, main]


def _compile(source: Path, jars: Sequence[Path], target: Path) -> None:
    (compiler,) = retrieved("java_compiler")
    paths = ":".join(str(jar) for jar in jars)
    options = ["-17", "-nowarn", "-cp", paths, "-d", str(target)]
    command = [str(require_java()), "-jar", str(compiler), *options, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[:2000]
        raise InfrastructureUnavailable(f"{source.name} does not compile: {said}")
