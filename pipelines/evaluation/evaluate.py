"""Evaluation of one detection: its results and the plain rule on the same readings, against the same labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import SettingsError
from pipelines.evaluation.alarms import alarms_of, episodes, notifications
from pipelines.evaluation.labels import Label, read_labels
from pipelines.evaluation.load import load
from pipelines.evaluation.plain_rule import plain_alarms
from pipelines.evaluation.score import score
from pipelines.transforms.rules import FAMILIES

EPISODE_GAP_S = 300.0


@dataclass(frozen=True)
class Run:
    """What is evaluated: readings (meter_id, ts, voltage_v, feeder_id), anomalies and incidents of `detect`."""

    readings: pd.DataFrame
    anomalies: pd.DataFrame
    incidents: pd.DataFrame
    labels: list[Label]
    slide_s: float

    @cached_property
    def alarms(self) -> pd.DataFrame:
        """Alarms of gridwatch, `alarms_of`."""
        return alarms_of(self.anomalies, slide_s=self.slide_s)

    @cached_property
    def plain_alarms(self) -> pd.DataFrame:
        """Alarms of the plain rule on the same readings; seconds of work on a long file."""
        return plain_alarms(self.readings)

    @property
    def meters(self) -> int:
        """Meters with readings."""
        return int(self.readings["meter_id"].nunique())

    @property
    def days(self) -> float:
        """Length of the readings in days."""
        return float((self.readings["ts"].max() - self.readings["ts"].min()).total_seconds()) / 86_400


def read_run(folder: Path, readings: pd.DataFrame, fleet: pd.DataFrame, labels: Path | None) -> Run:
    """The results of `gridwatch detect --out folder` with their readings. Raises SettingsError for missing files."""
    names = ("windows", "anomalies", "incidents")
    missing = [f"{name}.parquet" for name in names if not (folder / f"{name}.parquet").exists()]
    if missing:
        raise SettingsError(f"--results {folder}: no {', '.join(missing)}; run gridwatch detect --out {folder} first")
    for name in names:
        try:
            pq.read_metadata(folder / f"{name}.parquet")
        except (pa.ArrowException, OSError) as error:
            raise SettingsError(
                f"--results {folder}: {name}.parquet is broken ({error}); run gridwatch detect"
            ) from None
    ends = pq.read_table(folder / "windows.parquet", columns=["window_end"])["window_end"].to_pandas()
    distinct = ends.drop_duplicates().sort_values()
    slide_s = float(distinct.diff().median().total_seconds()) if len(distinct) > 1 else 60.0
    anomalies = pq.read_table(
        folder / "anomalies.parquet",
        columns=["meter_id", "feeder_id", "event_ts", "severity", "stage", "anomaly_type"],
    ).to_pandas()
    anomalies["event_ts"] = _utc(anomalies["event_ts"])
    placed = readings.merge(fleet[["meter_id", "feeder_id"]], on="meter_id", how="left").assign(ts=_utc(readings["ts"]))
    incidents = pq.read_table(folder / "incidents.parquet").to_pandas()
    events = read_labels(labels, fleet) if labels else []
    return Run(placed, anomalies, incidents, events, slide_s)


def evaluate(run: Run) -> dict[str, Any]:
    """Figures by the protocol: `gridwatch` and `plain` side by side, with the size of the run."""
    gap_s = max(EPISODE_GAP_S, 1.5 * run.slide_s)
    meter_days = run.meters * run.days
    alarms, plain = run.alarms, run.plain_alarms
    children = run.incidents[run.incidents["parent_id"].notna()]
    found = episodes(_without(alarms, children), gap_s=gap_s)
    plain_found = episodes(plain, gap_s=EPISODE_GAP_S)
    sent = notifications(run.incidents)
    plain_sent = pd.DataFrame(
        [{"ts": e.start, "meter_id": e.meter_id, "feeder_id": e.feeder_id} for e in plain_found],
        columns=["ts", "meter_id", "feeder_id"],
    )
    size = {"meters": run.meters, "days": run.days}
    return {
        **size,
        "readings": len(run.readings),
        "labels": len(run.labels),
        "gridwatch": {
            **score(run.labels, found, alarms, meter_days=meter_days, strict=True),
            "incidents": run.incidents["severity"].value_counts().to_dict(),
            "load": load(sent, run.labels, **size),  # type: ignore[arg-type]
        },
        "plain": {
            **score(run.labels, plain_found, plain, meter_days=meter_days, strict=False),
            "load": load(plain_sent, run.labels, **size),  # type: ignore[arg-type]
        },
    }


def _without(alarms: pd.DataFrame, children: pd.DataFrame) -> pd.DataFrame:
    """The alarms that belong to no child of a feeder's incident: these are explained by it."""
    if children.empty:
        return alarms
    family = alarms["anomaly_type"].map(FAMILIES)
    keep = pd.Series(True, index=alarms.index)
    keys = alarms["meter_id"].fillna("") + "|" + family.fillna("")
    groups = alarms.groupby(keys).groups
    for child in children.to_dict("records"):
        rows = groups.get(f"{child['meter_id']}|{child['family']}")
        if rows is not None:
            inside = alarms.loc[rows, "ts"].between(child["opened_at"], child["last_anomaly_at"])
            keep.loc[inside[inside].index] = False
    return alarms[keep]


def _utc(times: pd.Series[Any]) -> pd.Series[Any]:
    aware: pd.Series[Any] = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
    return aware
