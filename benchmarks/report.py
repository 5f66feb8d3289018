"""The report as a text table, and as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SAMPLES = "samples"
"""What stands under this name is for plots: it is in the JSON only."""
_NUMBERS = re.compile(r"\[\s+((?:-?[\d.eE+-]+|null)(?:,\s+(?:-?[\d.eE+-]+|null))*)\s+\]")


def as_json(report: Mapping[str, Any]) -> str:
    """Indented, but each list of numbers on one line.

    >>> print(as_json({"lag": [1, None, 2.5]}), end="")
    {
      "lag": [1, null, 2.5]
    }
    """
    text = json.dumps(report, indent=2)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


def as_text(report: Mapping[str, Any]) -> str:
    """Runs of each engine as a table, everything else but samples as `name: value` lines.

    >>> print(as_text({"commit": "abc", "drain": {"readings": 5, "runs": {}}}))
    commit              abc
    <BLANKLINE>
    drain
      readings            5
    """
    return "\n".join(_lines(report, 0))


def _lines(values: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, value in values.items():
        if name == SAMPLES:
            continue
        if isinstance(value, Mapping) and value and all(isinstance(one, Mapping) for one in value.values()):
            yield from _title(name, depth)
            yield from _lines(value, depth + 1)
        elif _is_table(value):
            yield f"{indent}{name}"
            yield from (f"{indent}  {line}" for line in table(value))
        elif isinstance(value, Mapping):
            if value:
                yield from _title(name, depth)
                yield from _lines(value, depth + 1)
        else:
            yield f"{indent}{name:<18}  {_cell(value)}"


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rows with the same fields, as aligned columns.

    >>> table([{"meters": 10, "rows": 5}, {"meters": 2000, "rows": 7}])
    ['meters  rows', '    10     5', ' 2,000     7']
    """
    names = [name for name in rows[0] if not isinstance(rows[0][name], (Mapping, list))]
    cells = [names, *[[_cell(row.get(name)) for name in names] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return ["  ".join(word.rjust(width) for word, width in zip(line, widths, strict=True)) for line in cells]


def _title(name: str, depth: int) -> list[str]:
    return ["", name] if depth == 0 else ["  " * depth + name]


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
