"""Rows as text: an aligned table, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

FORMATS = ("table", "csv", "json")
Rows = Sequence[Sequence[Any]]


def render(names: Sequence[str], rows: Rows, form: str) -> str:
    """The rows in one of `FORMATS`."""
    return {"table": as_table, "csv": as_csv, "json": as_json}[form](names, rows)


def as_table(names: Sequence[str], rows: Rows) -> str:
    """Aligned columns, numbers to the right.

    >>> print(as_table(["type", "n"], [["step", 7], ["drift", 12]]))
    type    n
    -----  --
    step    7
    drift  12
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(names))]
    lines = [_line(names, widths, right), "  ".join("-" * width for width in widths)]
    return "\n".join(lines + [_line(row, widths, right) for row in cells])


def as_csv(names: Sequence[str], rows: Rows) -> str:
    """A header and the rows; null is empty.

    >>> print(as_csv(["a", "b"], [[None, "x,y"]]))
    a,b
    ,"x,y"
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(["" if value is None else _cell(value) for value in row] for row in rows)
    return text.getvalue().removesuffix("\n")


def as_json(names: Sequence[str], rows: Rows) -> str:
    """An array of objects, one a line.

    >>> print(as_json(["a"], [[1]]))
    [
    {"a": 1}
    ]
    """
    objects = (json.dumps(dict(zip(names, row, strict=True)), default=plain, ensure_ascii=False) for row in rows)
    return "[\n" + ",\n".join(objects) + "\n]"


def plain(value: Any) -> Any:
    """A value JSON does not know as text: times in UTC with Z, bytes as UTF-8 with escapes.

    >>> plain(datetime(2026, 1, 2, tzinfo=UTC))
    '2026-01-02T00:00:00.000Z'
    """
    if isinstance(value, datetime):
        in_utc = value.astimezone(UTC) if value.tzinfo else value
        return in_utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + ("Z" if value.tzinfo else "")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("utf-8", errors="backslashreplace")
    return str(value)


def _cell(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, default=plain, ensure_ascii=False)
    text = str(plain(value))
    return text if text.isprintable() else text.encode("unicode_escape").decode()


def _line(cells: Iterable[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(padded).rstrip()


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
