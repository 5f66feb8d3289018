"""Figures of an evaluation as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Table = tuple[list[str], list[list[Any]]]


def tables(figures: dict[str, Any]) -> Iterator[Table]:
    """(names, rows) by kind of event, and of the whole, gridwatch beside the plain rule."""
    ours, plain = figures["gridwatch"], figures["plain"]
    names = ["kind", "labels", "found", "recall", "precision", "F1", "delay p50", "delay p95", "plain recall"]
    yield names, [_kind_row(kind, ours["kinds"][kind], plain["kinds"][kind]) for kind in ours["kinds"]]
    rows = [
        ["all kinds: recall / precision / F1", _triple(ours["all"]), _triple(plain["all"])],
        ["out of band: recall / precision / F1", _triple(ours["out_of_band"]), _triple(plain["out_of_band"])],
        *(
            [f"false alarms per meter-day, {severity}", *(f"{one[_FALSE][severity]:.4f}" for one in (ours, plain))]
            for severity in ("WARNING", "ERROR", "CRITICAL")
        ),
        ["false alarm minutes per meter-day", *(f"{one[_MINUTES]:.2f}" for one in (ours, plain))],
        *([text, _number(ours["load"][name]), _number(plain["load"][name])] for name, text in _LOAD.items()),
    ]
    yield ["figure", "gridwatch", "plain rule"], rows


_FALSE = "false_alarms_per_meter_day"
_MINUTES = "false_minutes_per_meter_day"
_LOAD = {
    "per_meter_day": "notifications per meter-day",
    "per_1000_meters_hour": "notifications per 1,000 meters and hour",
    "worst_10_min": "most notifications in 10 min outside feeder events",
    "per_feeder_event": "notifications per feeder event",
    "most_per_feeder_event": "most notifications of one feeder event",
}


def _kind_row(kind: str, ours: dict[str, Any], plain: dict[str, Any]) -> list[Any]:
    figures = [_number(ours[name]) for name in ("recall", "precision", "f1")]
    delays = ["-" if ours[name] is None else f"{ours[name]:.0f} s" for name in ("delay_p50_s", "delay_p95_s")]
    return [kind, ours["labels"], ours["found"], *figures, *delays, _number(plain["recall"])]


def _triple(figures: dict[str, Any]) -> str:
    return " / ".join(_number(figures[name]) for name in ("recall", "precision", "f1"))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
