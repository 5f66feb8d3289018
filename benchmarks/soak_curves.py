"""What the samples of a soak say: where each curve began, where it ended, and how steep it is; and the curves drawn."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.tables import TABLES

Values = Sequence[float | int | None]
Samples = Mapping[str, Values]
"""The values of each curve, one a sample; `seconds` among them. None is a value that could not be had."""
Figures = dict[str, Any]

_HOUR_S = 3600.0
_MEMORY = ("rss_mib.", "heap_mib.")
_FILES = ("files.", "checkpoint.")


def as_columns(rows: Sequence[Mapping[str, float | int | None]]) -> dict[str, list[float | int | None]]:
    """Samples as one list a name; None where a sample lacks it.

    >>> as_columns([{"seconds": 0, "lag": 5}, {"seconds": 15}])
    {'seconds': [0, 15], 'lag': [5, None]}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def judged(samples: Samples, warm_s: float) -> dict[str, list[Figures]]:
    """Each curve after `warm_s` seconds: first, last and largest value and the slope an hour.

    `tables` are the curves of single tables, without those that never moved; `curves` are all others.
    """
    rows = [judge(name, samples["seconds"], values, warm_s) for name, values in samples.items() if name != "seconds"]
    of_tables = [row for row in rows if row["curve"].partition(".")[0] in TABLES]
    return {
        "curves": [row for row in rows if row not in of_tables],
        "tables": [row for row in of_tables if len(set(samples[row["curve"]]) - {None}) > 1],
    }


def judge(name: str, seconds: Values, values: Values, warm_s: float) -> Figures:
    """One curve after the warm-up; without a value there, None for all.

    >>> judge("lag", [0, 10, 20, 30], [900, 5, 7, 9], 10)
    {'curve': 'lag', 'first': 5, 'last': 9, 'max': 9, 'per_hour': 720.0}
    """
    points = [
        (at, value)
        for at, value in zip(seconds, values, strict=True)
        if at is not None and value is not None and at >= warm_s
    ]
    found = [value for _, value in points]
    return {
        "curve": name,
        "first": found[0] if found else None,
        "last": found[-1] if found else None,
        "max": max(found, default=None),
        "per_hour": slope_per_hour(points),
    }


def slope_per_hour(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope an hour, by least squares, of (seconds, value); None for fewer than two moments.

    >>> slope_per_hour([(0, 1.0), (1800, 2.0), (3600, 3.0)])
    2.0
    """
    if len({at for at, _ in points}) < 2:
        return None
    seconds, values = zip(*points, strict=True)
    return round(statistics.linear_regression(seconds, values).slope * _HOUR_S, 1)


def draw(samples: Samples, path: Path, *, title: str, warm_s: float) -> bool:
    """Write memory, files and lag over minutes as a picture; False without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    minutes = [float("nan") if at is None else at / 60 for at in samples["seconds"]]
    figure = Figure(figsize=(10, 11), layout="constrained")
    axes: Any = figure.subplots(3, 1, sharex=True)
    panels = (("memory, MiB", _MEMORY), ("files", _FILES), ("lag, records", ("lag",)))
    for ax, (label, prefixes) in zip(axes, panels, strict=True):
        for name in (name for name in samples if name.startswith(prefixes)):
            values = [float("nan") if value is None else value for value in samples[name]]
            thin = name.startswith("heap_mib.")
            ax.plot(minutes, values, label=name, linewidth=0.7 if thin else 1.5, linestyle=":" if thin else "-")
        ax.axvspan(0, warm_s / 60, color="0.93")
        ax.set_ylabel(label)
        ax.set_ylim(bottom=0)
        ax.grid(visible=True, linewidth=0.3)
        ax.legend(loc="upper left", fontsize="small", ncols=3)
    axes[0].set_title(f"{title} (grey: warm-up)")
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=110)
    return True
