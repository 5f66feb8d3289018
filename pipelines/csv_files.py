"""CSV files that a person made: rows with their line, or one line that says what is wrong and what to do."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path

from pipelines.errors import SettingsError

Row = dict[str, str]
_PARQUET = b"PAR1"
_NEAR = 0.75
"""So alike, from 0 to 1, must a column be to one that is missing to be taken for it."""


def read_rows(path: Path, *, option: str, needed: Collection[str], hint: str) -> Iterator[tuple[int, Row]]:
    """Number and fields of every line below the header; an empty field and a missing one are "".

    `option` is what named the file, `hint` what to do when it cannot be read. Raises SettingsError for a file that
    is missing, no CSV of UTF-8 with commas, or lacks a needed column, and for a line longer than the header.
    """
    said = f"{option} {path}"
    try:
        with path.open("rb") as raw:
            if raw.read(len(_PARQUET)) == _PARQUET:
                raise SettingsError(f"{said} is a parquet file; {hint}")
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            _require_columns(said, header, needed, hint)
            for fields in reader:
                if len(fields) > len(header):
                    raise SettingsError(
                        f"{said}, line {reader.line_num}: {len(fields)} fields under {len(header)} columns;"
                        ' put a field with a comma in "quotes", write decimals with a point'
                    )
                if fields:
                    values = [field.strip() for field in fields] + [""] * (len(header) - len(fields))
                    yield reader.line_num, dict(zip(header, values, strict=True))
    except OSError as error:
        raise SettingsError(f"{said}: {error.strerror}; {hint}") from None
    except UnicodeDecodeError as error:
        wrong = error.object[error.start]
        raise SettingsError(f"{said}: byte 0x{wrong:02x} is not UTF-8; save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise SettingsError(f"{said} is no CSV: {error}; {hint}") from None


def columns_of(path: Path) -> list[str]:
    """The header of a CSV that `read_rows` has read."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [name.strip() for name in next(csv.reader(file), [])]


def number_in(text: str) -> float:
    """A finite number. Raises ValueError.

    >>> number_in("230.5")
    230.5
    """
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def time_in(text: str) -> datetime:
    """An ISO time; UTC where it names no zone. Raises ValueError.

    >>> time_in("2026-03-02 12:00").isoformat()
    '2026-03-02T12:00:00+00:00'
    """
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def require_commas(said: str, header: list[str]) -> None:
    """Raises SettingsError when other marks than commas part the columns. `said` names the file."""
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        mark = "semicolons" if ";" in header[0] else "tabs"
        raise SettingsError(f"{said}: its columns are parted by {mark}; save it with commas, decimals with a point")


def some(names: Iterable[str]) -> str:
    """The first five of many names, for a message.

    >>> some("abcdef"), some("ab")
    ('a, b, c, d, e ...', 'a, b')
    """
    few = list(names)
    return ", ".join(few[:5]) + (" ..." if len(few) > 5 else "")


def look_alikes(missing: Collection[str], found: Collection[str]) -> str:
    """Columns of a file that may be meant by those it lacks, as a question before the advice; empty when none is."""
    pairs = [(name, get_close_matches(name, found, n=1, cutoff=_NEAR)) for name in missing]
    meant = [f"{near[0]!r} as {name!r}" for name, near in pairs if near]
    return f"did you mean {', '.join(meant)}? " if meant else ""


def _require_columns(said: str, header: list[str], needed: Collection[str], hint: str) -> None:
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise SettingsError(f"{said}: column {', '.join(twice)} stands twice in the header; keep one")
    missing = [name for name in needed if name not in header]
    if not missing:
        return
    if not header:
        raise SettingsError(f"{said} is empty; {hint}")
    require_commas(said, header)
    raise SettingsError(f"{said}: no column {', '.join(missing)}; {look_alikes(missing, header)}{hint}")
