"""The page docs/cli.md: the help texts of all commands."""

from __future__ import annotations

import argparse
import io
import os
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress

from pipelines.cli.main import build_parser

_WIDTH = "100"
_INTRO = """# Command line

`gridwatch COMMAND`, also `python -m pipelines COMMAND`. Results go to standard output, progress and errors
to standard error; an error is one line."""


def command_line_page() -> str:
    """The page as Markdown."""
    return "\n\n".join((_INTRO, *(_section(title, text) for title, text in help_texts())))


def help_texts() -> Iterator[tuple[str, str]]:
    """Every command with what `--help` prints, wrapped at one width wherever this runs."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        yield from list(_walk(build_parser()))
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def _walk(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    yield parser.prog, parser.format_help() if parser.add_help else _forwarded_help(parser)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from _walk(child)


def _forwarded_help(parser: argparse.ArgumentParser) -> str:
    """Help of a program that the command hands its arguments on to."""
    args = parser.parse_args(["--help"])
    text = io.StringIO()
    with redirect_stdout(text), suppress(SystemExit):
        args.command(args)
    return text.getvalue()


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n```\n{text.rstrip()}\n```"
