"""The first page of the data docs: every outcome in a table that needs neither a network nor JavaScript."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from html import escape
from pathlib import Path
from urllib.parse import quote

from pipelines.quality.judge import Outcome

_STYLE = (
    "body{font-family:sans-serif;margin:2em}td,th{padding:.2em .8em;text-align:left;border-bottom:1px solid #ccc}"
    ".fail{background:#f8d0d0}.warn{background:#fbeec2}"
)


def write_index(folder: Path, day: date, outcomes: Sequence[Outcome]) -> None:
    """Write `index.html` over the one of Great Expectations; links go to the newest page of each suite."""
    (folder / "index.html").write_text(index_page(day, outcomes, suite_pages(folder)), encoding="utf-8")


def suite_pages(folder: Path) -> dict[str, str]:
    """Address of the newest result page, relative to the folder, by the name of its suite."""
    pages = sorted(folder.glob("validations/**/gridwatch-*.html"), key=lambda page: page.parent.name)
    return {page.stem.removeprefix("gridwatch-"): page.relative_to(folder).as_posix() for page in pages}


def index_page(day: date, outcomes: Iterable[Outcome], pages: dict[str, str]) -> str:
    """The page as HTML, what is broken first."""
    ordered = sorted(outcomes, key=lambda one: (one.success, one.check.severity, one.suite))
    names = "".join(f"<th>{name}</th>" for name in ("expectation", "severity", "result", "unexpected", "on a good day"))
    rows = "\n".join(_row(one, pages.get(one.suite)) for one in ordered)
    broken = sum(not one.success for one in ordered)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Data quality of {day}</title>'
        f"<style>{_STYLE}</style></head>\n<body><h1>Data quality of {day}</h1>\n"
        f"<p>{len(ordered)} expectations, {broken} broken.</p>\n"
        f"<table>\n<tr>{names}</tr>\n{rows}\n</table>\n</body></html>\n"
    )


def _row(one: Outcome, page: str | None) -> str:
    name = escape(f"{one.suite}.{one.check.name}")
    linked = f'<a href="{escape(quote(page))}">{name}</a>' if page else name
    unexpected = "" if one.unexpected is None else f"{one.unexpected} of {one.rows}"
    cells = [linked, one.check.severity, "passes" if one.success else "broken", unexpected]
    kind = "" if one.success else f' class="{one.check.severity}"'
    meaning = escape(one.error or one.check.meaning)
    return f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in (*cells, meaning))}</tr>"
