"""What a fleet costs, as sums of a few coefficients; fitted on measured points and compared with others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipelines.errors import GridwatchError

Point = Mapping[str, Any]
"""One of `points` of the report of `python -m benchmarks scale`."""
Value = Callable[[Point], float]

HELD_OUT = (3_000, 30_000, 300_000)
"""Fleets (meters) on which nothing is fitted: the model is compared with them."""
LEAST_POINTS = 4
GROWN_AFTER = 8
"""Window ends after which the state is taken for as large as it gets."""


class CannotFit(GridwatchError):
    """The report does not hold enough points."""


@dataclass(frozen=True)
class Quantity:
    """A measured figure as a sum: coefficient times term, the coefficients not negative."""

    unit: str
    measured: Value
    terms: Mapping[str, Value]


Coefficients = Mapping[str, Mapping[str, float]]
"""By quantity and term."""


def _once(_: Point) -> float:
    return 1.0


def _million_readings(point: Point) -> float:
    return float(point["readings"]) / 1e6


def _million_windows(point: Point) -> float:
    """Of every meter at every window end that was closed."""
    return float(point["meters"]) * float(point["window_ends"]) / 1e6


def _million_meters(point: Point) -> float:
    return float(point["meters"]) / 1e6


def _million_state_rows(point: Point) -> float:
    return float(point["state_rows"]) / 1e6


def _grown_state(point: Point) -> float:
    """Rows of a state that no longer grows: windows are five slides long, and a batch may close several at once."""
    return _million_state_rows(point) if point["window_ends"] >= GROWN_AFTER else 0.0


def _archive_batches(point: Point) -> float:
    return float(point["batches"]["archive"]["n"])


def _windows_batches(point: Point) -> float:
    """Those that closed something make two tables' commits; Spark's data-free ones are counted too."""
    return float(point["batches"]["windows"]["n"])


def _batch_readings(point: Point) -> float:
    """Million readings of the mean archive batch."""
    return _million_readings(point) / max(1.0, _archive_batches(point))


def _table(name: str, what: str, scale: float) -> Value:
    return lambda point: float(point["tables"].get(name, {}).get(what, 0)) / scale


def _cpu(*names: str) -> Value:
    return lambda point: float(sum(point["cpu_s"][name] for name in names))


def _files(point: Point) -> float:
    return float(sum(table["all_files"] for table in point["tables"].values()))


QUANTITIES: dict[str, Quantity] = {
    "pipeline_cpu": Quantity("CPU s", _cpu("jvm", "python"), {
        "once": _once, "batch": lambda p: _archive_batches(p) + _windows_batches(p),
        "million_readings": _million_readings, "million_windows": _million_windows,
    }),
    "driver_python_cpu": Quantity("CPU s", _cpu("python"), {
        "once": _once, "batch": lambda p: _archive_batches(p) + _windows_batches(p),
        "million_readings": _million_readings,
    }),
    "broker_cpu": Quantity("CPU s", _cpu("broker"), {"once": _once, "million_readings": _million_readings}),
    "generator_cpu": Quantity(
        "CPU s", lambda p: float(p["generator"]["cpu_s"]), {"once": _once, "million_readings": _million_readings}
    ),
    "kafka": Quantity("MB", lambda p: float(p["kafka_bytes"]) / 1e6, {"million_readings": _million_readings}),
    "readings_table": Quantity("MB", _table("readings", "bytes", 1e6), {"million_readings": _million_readings}),
    "windows_table": Quantity("MB", _table("meter_windows", "bytes", 1e6), {"million_windows": _million_windows}),
    "files": Quantity("files", _files, {
        "once": _once, "archive_batch": _archive_batches, "windows_batch": _windows_batches,
    }),
    "state": Quantity("million rows", _grown_state, {"million_meters": _million_meters}),
    "checkpoint": Quantity("MB", lambda p: float(p["checkpoint_bytes"]) / 1e6, {
        "once": _once, "million_state_rows": _million_state_rows,
    }),
    "heap": Quantity("MiB", lambda p: float(p["heap_mib"] or 0), {"once": _once, "million_meters": _million_meters}),
    "driver_python_memory": Quantity("MiB", lambda p: float(p["peak_rss_mib"]["python"]), {
        "once": _once, "million_meters": _million_meters, "million_readings_a_batch": _batch_readings,
    }),
    "readings_write": Quantity("s", lambda p: float(p["sink_s"].get("delta readings", 0)), {
        "archive_batch": _archive_batches, "million_readings": _million_readings,
    }),
    "windows_write": Quantity("s", lambda p: float(p["sink_s"].get("delta meter_windows", 0)), {
        "windows_batch": _windows_batches, "million_windows": _million_windows,
    }),
}  # fmt: skip
"""The two writes are the time of a single task each: more executors do not shorten them."""


def usable(points: Sequence[Point]) -> list[Point]:
    """The points that were measured to their end."""
    return [point for point in points if "error" not in point and not point.get("stopped")]


def fit_all(points: Sequence[Point]) -> dict[str, dict[str, float]]:
    """The coefficients of every quantity, from the points that are not held out. Raises CannotFit."""
    chosen = [point for point in usable(points) if point["meters"] not in HELD_OUT]
    if len(chosen) < LEAST_POINTS:
        raise CannotFit(
            f"{len(chosen)} points to fit on: {LEAST_POINTS} or more are needed that were measured to their end and"
            f" have other fleets than {', '.join(map(str, HELD_OUT))}; measure them with `python -m benchmarks scale`"
        )
    return {name: fit(quantity, chosen) for name, quantity in QUANTITIES.items()}


def fit(quantity: Quantity, points: Sequence[Point]) -> dict[str, float]:
    """The coefficients with the smallest squares of the relative errors; where one would be negative it is 0.

    Points at which the quantity is 0 tell nothing and are left out.
    """
    told = [(point, value) for point in points if (value := quantity.measured(point)) > 0]
    names = list(quantity.terms)
    wanted = np.ones(len(told))
    rows = np.array([[term(point) / value for term in quantity.terms.values()] for point, value in told])
    kept = list(range(len(names))) if told else []
    found = np.zeros(0)
    while kept:
        found = np.linalg.lstsq(rows[:, kept], wanted, rcond=None)[0]
        if (found >= 0).all():
            break
        del kept[int(np.argmin(found * rows[:, kept].max(axis=0)))]
    values = dict(zip(kept, found.tolist(), strict=True)) if kept else {}
    return {name: values.get(place, 0.0) for place, name in enumerate(names)}


def modelled(quantity: Quantity, coefficients: Mapping[str, float], point: Point) -> float:
    """What the model says of a point."""
    return sum(coefficients[name] * term(point) for name, term in quantity.terms.items())


def compared(points: Sequence[Point], coefficients: Coefficients, *, fitted: bool = True) -> list[dict[str, Any]]:
    """One row a quantity and point: measured, modelled, error in % of the measured, and whether it was fitted on.

    `fitted`: whether the coefficients are of these points, but for those held out.
    """
    return [
        {
            "quantity": f"{name}, {quantity.unit}", "meters": point["meters"], "cadence_s": point["cadence_s"],
            "measured": round(value, 3), "modelled": round(told, 3),
            "error_percent": round((told / value - 1) * 100, 1), "fitted": fitted and point["meters"] not in HELD_OUT,
        }
        for name, quantity in QUANTITIES.items()
        for point in usable(points)
        if (value := quantity.measured(point)) > 0
        for told in (modelled(quantity, coefficients[name], point),)
    ]  # fmt: skip
