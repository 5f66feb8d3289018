"""The Java that Spark and the broker run on: found, checked, or one line that says how to get it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from pipelines.errors import InfrastructureUnavailable

SUPPORTED = (17, 21)
_VERSION = re.compile(r'version "(\d+)(?:\.(\d+))?[^"]*"')
_FULL_VERSION = re.compile(r'version "([^"]+)"')


def require_java(environment: Mapping[str, str] = os.environ) -> Path:
    """The `java` program Spark will use: of JAVA_HOME when that is set, else of PATH.

    Raises InfrastructureUnavailable, with the install command, when there is none or it is not supported.
    """
    java = _find(environment)
    if java is None:
        where = f"JAVA_HOME={environment['JAVA_HOME']}" if environment.get("JAVA_HOME") else "PATH"
        raise InfrastructureUnavailable(f"Java not found in {where}: {_advice()}")
    major = major_version(_ask(java))
    if major not in SUPPORTED:
        raise InfrastructureUnavailable(f"{java} is Java {major or 'of unknown version'}: {_advice()}")
    return java


def java_version(java: Path) -> str:
    """The full version string, such as `17.0.15`."""
    found = _FULL_VERSION.search(_ask(java))
    return found.group(1) if found else "unknown"


def major_version(text: str) -> int | None:
    """Major version in what `java -version` prints, None when it holds no version.

    >>> major_version('openjdk version "17.0.15" 2025-04-15')
    17
    >>> major_version('java version "1.8.0_402"')
    8
    >>> major_version('openjdk version "21" 2023-09-19')
    21
    """
    found = _VERSION.search(text)
    if found is None:
        return None
    first, second = found.groups()
    return int(second) if first == "1" and second else int(first)


def _find(environment: Mapping[str, str]) -> Path | None:
    if home := environment.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        return java if os.access(java, os.X_OK) else None
    on_path = shutil.which("java", path=environment.get("PATH"))
    return Path(on_path) if on_path else None


def _ask(java: Path) -> str:
    """What `java -version` prints; empty when it cannot be run (the macOS stub without a JDK fails too)."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stderr + done.stdout


def _advice() -> str:
    install = "brew install openjdk@17" if sys.platform == "darwin" else "sudo apt-get install openjdk-17-jre-headless"
    return f"gridwatch needs Java 17 or 21, install it with `{install}`"


def main() -> int:
    """For `make`, before anything is installed: 0, or 4 with the one line on standard error."""
    try:
        require_java()
    except InfrastructureUnavailable as missing:
        sys.stderr.write(f"{missing}\n")
        return missing.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
