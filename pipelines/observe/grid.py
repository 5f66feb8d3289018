"""The state of the grid in a few bounded series: meters by voltage band, the worst ranks, incidents by feeder.

A meter's id is in no label: a fleet of a hundred thousand meters would be as many series, and ids are personal data in
most countries. The ranks say how bad the worst are; `gridwatch sql` and the console say who they are
(docs/adr/0012-no-meter-ids-in-metrics.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.observe.metrics import PipelineMetrics
from pipelines.settings import Detection

BANDS = ("silent", "dead", "low", "lower_half", "upper_half", "high")
"""silent: no reading in the window; dead: below the limit of an interruption; low and high: beyond the limits of
under- and overvoltage; the rest by the side of Un it lies on."""

OTHER = "other"
SEVERITIES = ("WARNING", "ERROR", "CRITICAL")
SCOPES = ("meter", "feeder")


def band_counts(windows: pa.Table, nominal: Mapping[str, float], detection: Detection) -> dict[str, int]:
    """Meters by band. `windows`: meter_id, n, mean_v of one window end; `nominal`: Un by meter, where known."""
    live, per_unit = _per_unit(windows, nominal, detection)
    edges = (detection.interruption_pu, detection.undervoltage_pu[0], 1.0, detection.overvoltage_pu[0])
    counted = np.bincount(np.searchsorted(edges, per_unit, side="right"), minlength=len(BANDS) - 1)
    silent = windows.num_rows - len(live)
    return dict(zip(BANDS, (silent, *map(int, counted)), strict=True))


def worst_voltages(windows: pa.Table, nominal: Mapping[str, float], detection: Detection, most: int) -> list[float]:
    """Mean voltages, in units of Un, of the meters farthest from Un, worst first; at most `most`."""
    _, per_unit = _per_unit(windows, nominal, detection)
    order = np.argsort(-np.abs(per_unit - 1.0), kind="stable")[:most]
    return [float(value) for value in per_unit[order]]


def _per_unit(
    windows: pa.Table, nominal: Mapping[str, float], detection: Detection
) -> tuple[list[str], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    live = windows.filter(pc.and_(pc.greater(windows["n"], 0), pc.is_valid(windows["mean_v"])))
    ids = live["meter_id"].to_pylist()
    rated = np.array([nominal.get(meter) or detection.nominal_voltage_v for meter in ids], dtype=np.float64)
    return ids, live["mean_v"].to_numpy() / rated


def show_windows(
    metrics: PipelineMetrics, windows: pa.Table, nominal: Mapping[str, float], detection: Detection, worst: int
) -> None:
    """Bands and ranks of one window end."""
    for band, meters in band_counts(windows, nominal, detection).items():
        metrics.meters_by_band.labels(band).set(meters)
    found = worst_voltages(windows, nominal, detection, worst)
    for rank in range(1, worst + 1):
        metrics.worst_meters.labels(str(rank)).set(found[rank - 1] if rank <= len(found) else float("nan"))


def show_incidents(metrics: PipelineMetrics, rows: Iterable[Mapping[str, Any]], feeders: int) -> None:
    """Open incidents by scope and severity, and by feeder: the `feeders` worst, and the rest as `other`.

    `rows`: incidents with status, scope, severity and feeder_id, each id once.
    """
    live = [row for row in rows if row["status"] == "open"]
    by_kind = Counter((row["scope"], row["severity"]) for row in live)
    for scope in SCOPES:
        for severity in SEVERITIES:
            metrics.open_incidents.labels(scope, severity).set(by_kind[scope, severity])
    by_feeder = Counter(row["feeder_id"] or "unknown" for row in live)
    ranked = sorted(by_feeder.items(), key=lambda item: (-item[1], item[0]))
    shown = dict(ranked[:feeders]) | {OTHER: sum(count for _, count in ranked[feeders:])}
    metrics.feeder_incidents.clear()
    for feeder, count in shown.items():
        metrics.feeder_incidents.labels(feeder).set(count)
