"""Whether readings, fleet, labels and results of an evaluation are of one run: else its figures mean nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipelines.errors import SettingsError
from pipelines.evaluation.evaluate import Run


def usable(readings: pd.DataFrame) -> pd.DataFrame:
    """The readings that `detect` takes: with a meter, a time and a finite voltage (V)."""
    is_usable = readings["meter_id"].fillna("").ne("") & readings["ts"].notna() & np.isfinite(readings["voltage_v"])
    kept: pd.DataFrame = readings[is_usable].reset_index(drop=True)
    return kept


def require_match(run: Run, fleet: pd.DataFrame) -> Iterator[str]:
    """Lines about what matches in part. Raises SettingsError when readings, fleet or labels have nothing in common."""
    meters, known = set(run.readings["meter_id"].dropna()), set(fleet["meter_id"])
    unknown = meters - known
    if unknown == meters:
        raise SettingsError("--fleet knows no meter of the readings; name the fleet of these readings")
    if unknown:
        yield f"{len(unknown):,} of {len(meters):,} meters are unknown to the fleet"
    found = set(run.anomalies["meter_id"].dropna())
    if found and not found & meters:
        raise SettingsError("--results is about other meters than --readings; name the readings of that detect")
    first, last = run.readings["ts"].min(), run.readings["ts"].max()
    inside = [one for one in run.labels if one.meters & meters and one.start <= last and one.end >= first]
    outside = len(run.labels) - len(inside)
    if run.labels and not inside:
        raise SettingsError(
            f"--labels: none of {outside:,} events is of a meter and a time of the readings ({first} to {last});"
            " name the labels of this run"
        )
    if outside:
        yield f"{outside:,} of {len(run.labels):,} labels are of other meters or times than the readings"
