"""Plots of an evaluation as SVG: voltage with its band and incidents, alarms per day. No drawing library needed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

import pandas as pd

from pipelines.evaluation.evaluate import Run

WIDTH, HEIGHT, MARGIN = 1000, 320, 48
COLOURS = {"WARNING": "#e0a800", "ERROR": "#d9480f", "CRITICAL": "#b00020"}
METERS_DRAWN = 3
MOST_POINTS = 4000


def draw(run: Run, folder: Path, *, nominal_v: float = 230.0) -> list[Path]:
    """Write `voltage-<meter>.svg` of the meters with most incidents and `alarms-per-day.svg`; returns the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    counts = run.incidents["meter_id"].dropna().value_counts()
    paths = []
    for meter in list(counts.index[:METERS_DRAWN]):
        name = re.sub(r"[^A-Za-z0-9._-]", "_", str(meter))
        paths.append(folder / f"voltage-{name}.svg")
        paths[-1].write_text(voltage_plot(run, str(meter), nominal_v=nominal_v), encoding="utf-8")
    paths.append(folder / "alarms-per-day.svg")
    paths[-1].write_text(alarms_plot(run), encoding="utf-8")
    return paths


def voltage_plot(run: Run, meter: str, *, nominal_v: float) -> str:
    """Readings of one meter, the band 0.90 to 1.10 Un, incidents as bars by severity, labels as grey grounds.

    Voltages are drawn up to 1.5 Un; beyond it they stand at the edge.
    """
    rows = run.readings[run.readings["meter_id"] == meter].sort_values("ts")
    rows = rows.iloc[:: max(1, len(rows) // MOST_POINTS)]
    start, end = run.readings["ts"].min(), run.readings["ts"].max()
    low, high = 0.0, 1.5 * nominal_v

    def x(at: pd.Timestamp) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * float((at - start) / (end - start))

    def y(volts: float) -> float:
        return HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (min(max(volts, low), high) - low) / (high - low)

    parts = [
        _rect(x(one.start), MARGIN, max(2.0, x(one.end) - x(one.start)), HEIGHT - 2 * MARGIN, "#dddddd", one.kind)
        for one in run.labels
        if meter in one.meters
    ]
    for pu in (0.9, 1.0, 1.1):
        parts.append(_line(MARGIN, y(pu * nominal_v), WIDTH - MARGIN, y(pu * nominal_v), f"{pu * nominal_v:.0f} V"))
    points = " ".join(f"{x(at):.1f},{y(v):.1f}" for at, v in zip(rows["ts"], rows["voltage_v"], strict=True))
    parts.append(f'<polyline points="{points}" fill="none" stroke="#1c5d99" stroke-width="0.8"/>')
    for row in run.incidents[run.incidents["meter_id"] == meter].to_dict("records"):
        width = max(3.0, x(row["last_anomaly_at"]) - x(row["opened_at"]))
        parts.append(_rect(x(row["opened_at"]), MARGIN - 14, width, 10, COLOURS[row["severity"]], row["message"]))
    return _page(f"{meter}: voltage, band and incidents, {start:%Y-%m-%d} to {end:%Y-%m-%d}", parts)


def alarms_plot(run: Run) -> str:
    """Alarms per day of gridwatch (left bar) and of the plain rule (right bar)."""
    ours = _by_day(run.alarms["ts"])
    plain = _by_day(run.plain_alarms["ts"])
    days = sorted({*ours.index, *plain.index})
    highest = max([1, *ours, *plain])
    width = (WIDTH - 2 * MARGIN) / max(1, len(days))
    parts = []
    for place, day in enumerate(days):
        left = MARGIN + place * width
        for shift, counts, colour in ((0.1, ours, "#1c5d99"), (0.5, plain, "#b0b0b0")):
            count = int(counts.get(day, 0))
            tall = (HEIGHT - 2 * MARGIN) * count / highest
            side, top = left + shift * width, HEIGHT - MARGIN - tall
            parts.append(_rect(side, top, 0.35 * width, tall, colour, f"{day}: {count}"))
            parts.append(_text(side, top - 4, f"{count:,}"))
        parts.append(_text(left, HEIGHT - MARGIN + 16, str(day)))
    return _page("Alarms per day: gridwatch (blue), 2.5 sigma + 250 V (grey)", parts)


def _by_day(times: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    return times.dt.date.value_counts()


def _rect(left: float, top: float, width: float, height: float, colour: str, title: str) -> str:
    place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect {place} fill="{colour}"><title>{escape(str(title))}</title></rect>'


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    line = f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#888888" stroke-dasharray="4"/>'
    return line + _text(4, y1 + 4, name)


def _text(x: float, y: float, words: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" font-family="sans-serif">{escape(words)}</text>'


def _page(title: str, parts: Iterable[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" role="img">'
    ground = f'<title>{escape(title)}</title><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    return "\n".join([head, ground, _text(MARGIN, 20, title), *parts, "</svg>\n"])
