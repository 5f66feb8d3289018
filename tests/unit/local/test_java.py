"""Java is found and checked, or one line says how to install it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import InfrastructureUnavailable
from pipelines.local.java import java_version, major_version, require_java


def fake_java(folder: Path, says: str) -> Path:
    """A `java` that prints `says` where Java prints its version."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{says}\nEND\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("says", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', 8),
        ('Picked up JAVA_TOOL_OPTIONS: -Da="b"\nopenjdk version "21.0.2-ea"', 21),
        ("no version here", None),
    ],
)
def test_the_major_version_is_read_from_every_spelling(says: str, major: int | None) -> None:
    assert major_version(says) == major


@pytest.mark.parametrize("version", ["17.0.15", "21.0.2"])
def test_java_home_wins_when_its_java_is_supported(tmp_path: Path, version: str) -> None:
    java = fake_java(tmp_path, f'openjdk version "{version}" 2025-04-15')
    assert require_java({"JAVA_HOME": str(tmp_path), "PATH": ""}) == java
    assert java_version(java) == version


def test_java_is_found_on_the_path(tmp_path: Path) -> None:
    java = fake_java(tmp_path, 'openjdk version "17.0.15"')
    assert require_java({"PATH": f"/nowhere:{java.parent}"}) == java


@pytest.mark.parametrize("home", [None, "/nowhere"])
def test_a_missing_java_is_one_line_with_the_install_command(home: str | None) -> None:
    environment = {"PATH": "/nowhere"} | ({"JAVA_HOME": home} if home else {})
    with pytest.raises(InfrastructureUnavailable, match=r"not found in .*install") as refused:
        require_java(environment)
    assert "\n" not in str(refused.value)
    assert "openjdk-17-jre-headless" in str(refused.value) or "openjdk@17" in str(refused.value)


@pytest.mark.parametrize("says", ['openjdk version "11.0.2"', 'openjdk version "24"', "broken"])
def test_another_java_is_refused_with_its_version(tmp_path: Path, says: str) -> None:
    fake_java(tmp_path, says)
    with pytest.raises(InfrastructureUnavailable, match=r"is Java (11|24|of unknown version): .*17 or 21"):
        require_java({"JAVA_HOME": str(tmp_path)})
