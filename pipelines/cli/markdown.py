"""Markdown tables of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; `|` inside a cell is escaped.

    >>> print(table(["a"], [["x|y"]]))
    | a |
    |---|
    | x\\|y |
    """
    lines = [_line(names), "|" + "---|" * len(names), *map(_line, rows)]
    return "\n".join(lines)


def code(text: str) -> str:
    """Text as code; nothing stays nothing.

    >>> code("lake.root"), code("")
    ('`lake.root`', '')
    """
    return f"`{text}`" if text else ""


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
