"""Colours are for people at a terminal; files, pipes and who says NO_COLOR get none. Every command explains itself."""

from __future__ import annotations

import io
import shlex

import pytest

from pipelines.cli.docs_cli import help_texts
from pipelines.cli.main import build_parser
from pipelines.cli.manual import _EXAMPLES
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


def test_every_command_has_an_example() -> None:
    """But the groups, whose actions have them, and `generate`, a program with a help of its own."""
    groups = {"gridwatch", "gridwatch topics", "gridwatch broker", "gridwatch objectstore", "gridwatch generate"}
    groups |= {"gridwatch checkpoint", "gridwatch dlq"}
    texts = dict(help_texts())
    assert not [name for name, text in texts.items() if name not in groups and f"  {name}" not in text]


def test_every_example_is_accepted_by_the_program() -> None:
    examples = [line.partition(" #")[0] for lines in _EXAMPLES.values() for line in lines]
    for line in (one.partition(" | ")[0].partition(" > ")[0] for one in examples):
        build_parser().parse_args(shlex.split(line)[1:])
