"""The windows of the pipeline in plain Python: the reference that Spark's answer must equal. No Spark here.

Times are epoch milliseconds. A reading counts in every window [start, end) that holds its event time; windows
end at every multiple of the slide. The last slide of a window is its tested part, the rest its baseline part.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any


@dataclass(frozen=True)
class Reading:
    """What a window sees of a reading."""

    meter_id: str
    event_ms: int
    voltage_v: float
    current_a: float = 5.0
    temperature_c: float = 20.0
    is_plausible: bool = True
    is_in_band: bool = True


def model_windows(readings: Iterable[Reading], *, window_s: int, slide_s: int) -> dict[tuple[str, int], dict[str, Any]]:
    """Features by (meter, window end), with the columns of meter_windows, times as epoch ms."""
    window_ms, slide_ms = window_s * 1000, slide_s * 1000
    members: dict[tuple[str, int], list[Reading]] = defaultdict(list)
    for reading in readings:
        end = (reading.event_ms // slide_ms + 1) * slide_ms
        while end - window_ms <= reading.event_ms:
            members[reading.meter_id, end].append(reading)
            end += slide_ms
    return {key: _features(*key, rows, window_ms, slide_ms) for key, rows in members.items()}


def model_fleet(
    readings: Iterable[Reading], *, window_s: int, slide_s: int, up_to_ms: int
) -> dict[tuple[str, int], dict[str, Any]]:
    """The same up to a window end, with a row of n = 0 for every meter already seen that is silent."""
    spoken = {k: v for k, v in model_windows(readings, window_s=window_s, slide_s=slide_s).items() if k[1] <= up_to_ms}
    complete: dict[tuple[str, int], dict[str, Any]] = {}
    last_seen: dict[str, int] = {}
    for end in sorted({end for _, end in spoken}):
        for (meter, _), row in ((k, v) for k, v in spoken.items() if k[1] == end):
            last_seen[meter] = max(row["last_event_ts"], last_seen.get(meter, 0))
        for meter, last in last_seen.items():
            silent = _features(meter, end, [], window_s * 1000, slide_s * 1000)
            complete[meter, end] = {**spoken.get((meter, end), silent), "last_event_ts": last}
    return complete


def model_baseline(readings: Iterable[Reading], *, start_ms: int, end_ms: int) -> dict[str, tuple[int, float, float]]:
    """n, mean and sample deviation (0 for one reading) of the in-band readings of a span, by meter."""
    values: dict[str, list[float]] = defaultdict(list)
    for reading in readings:
        if reading.is_in_band and start_ms <= reading.event_ms < end_ms:
            values[reading.meter_id].append(reading.voltage_v)
    return {m: (len(v), fmean(v), stdev(v) if len(v) > 1 else 0.0) for m, v in values.items()}


def _features(meter_id: str, end: int, rows: list[Reading], window_ms: int, slide_ms: int) -> dict[str, Any]:
    base = [r.voltage_v for r in rows if r.is_in_band and r.event_ms < end - slide_ms]
    last_slide = [r for r in rows if r.event_ms >= end - slide_ms]
    tested = [r.voltage_v for r in last_slide if r.is_in_band]
    heard = [r for r in last_slide if r.is_plausible]
    seen = [r.voltage_v for r in heard]
    usable = [r for r in rows if r.is_plausible]
    volts = [r.voltage_v for r in usable]
    degrees = [r.temperature_c for r in usable]
    is_silent = not rows
    return {
        "meter_id": meter_id,
        "window_start": end - window_ms,
        "window_end": end,
        "n": len(rows),
        "base_n": None if is_silent else len(base),
        "base_mean_v": _mean(base),
        "base_std_v": _std(base),
        "tested_n": None if is_silent else len(tested),
        "tested_mean_v": _mean(tested),
        "tested_std_v": _std(tested),
        "tested_min_v": min(seen, default=None),
        "tested_max_v": max(seen, default=None),
        "tested_out_ts": min((r.event_ms for r in heard if not r.is_in_band), default=None),
        "base_mean_current_a": _mean([r.current_a for r in rows if r.is_in_band and r.event_ms < end - slide_ms]),
        "tested_min_current_a": min((r.current_a for r in heard), default=None),
        "tested_max_current_a": max((r.current_a for r in heard), default=None),
        "tested_max_temperature_c": max((r.temperature_c for r in heard), default=None),
        "plausible_n": None if is_silent else len(usable),
        "mean_v": _mean(volts),
        "std_v": _std(volts),
        "min_v": min(volts, default=None),
        "max_v": max(volts, default=None),
        "max_current_a": max((r.current_a for r in usable), default=None),
        "min_temperature_c": min(degrees, default=None),
        "max_temperature_c": max(degrees, default=None),
        "last_event_ts": max((r.event_ms for r in rows), default=None),
        "residual_v": None,
        "feeder_std_v": None,
        "window_date": end // 86_400_000,
        "phase": None,
    }


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None


def _std(values: list[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None
