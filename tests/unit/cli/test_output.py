"""Colours are for people at a terminal; files, pipes and who says NO_COLOR get none. Every command explains itself."""

from __future__ import annotations

import io

import pytest

from pipelines.cli.docs_cli import help_texts
from pipelines.cli.output import has_colours, painted

TABLE = """\
check         result   what
------------  -------  ----
kafka         ok       ok
broker clock  warning  it is failed"""
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red"}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_a_terminal_has_colours_and_a_pipe_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_colours(Terminal())
    assert not has_colours(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not has_colours(Terminal())


def test_only_the_cell_of_the_result_is_painted() -> None:
    shown = painted(TABLE, COLOURS, Terminal()).splitlines()
    assert shown[2] == "kafka         \x1b[32mok\x1b[0m       ok"
    assert shown[3] == "broker clock  \x1b[33mwarning\x1b[0m  it is failed"
    assert painted(TABLE, COLOURS, io.StringIO()) == TABLE


def test_every_command_that_does_something_has_an_example_or_an_explanation() -> None:
    groups = {"gridwatch topics", "gridwatch broker", "gridwatch objectstore"}
    bare = [
        name
        for name, text in help_texts()
        if name not in groups and not name.endswith(" stop") and len(text.splitlines()) < 8
    ]
    assert not bare
