"""Evaluation of one detection: its results and the plain rule on the same readings, against the same labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.detection_settings import Detection
from pipelines.errors import SettingsError
from pipelines.evaluation.alarms import alarms_of, episodes, notifications
from pipelines.evaluation.labels import Label, read_labels
from pipelines.evaluation.load import load
from pipelines.evaluation.plain_rule import plain_alarms
from pipelines.evaluation.score import judge, score

EPISODE_GAP_S = 300.0


@dataclass(frozen=True)
class Run:
    """What is evaluated: readings (meter_id, ts, voltage_v, feeder_id), anomalies and incidents of `detect`."""

    readings: pd.DataFrame
    anomalies: pd.DataFrame
    incidents: pd.DataFrame
    labels: list[Label]
    slide_s: float
    window_s: float = 300.0

    @property
    def detection(self) -> Detection:
        """Settings of the run as far as its results tell them (window and slide); the others at their defaults."""
        return Detection().model_copy(update={"window": self.window_s, "slide": self.slide_s})

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
    windows = pq.read_table(folder / "windows.parquet", columns=["window_start", "window_end"]).to_pandas()
    window_s = float((windows["window_end"] - windows["window_start"]).max().total_seconds()) if len(windows) else 300.0
    distinct = windows["window_end"].drop_duplicates().sort_values()
    slide_s = float(distinct.diff().median().total_seconds()) if len(distinct) > 1 else 60.0
    anomalies = pq.read_table(
        folder / "anomalies.parquet",
        columns=["meter_id", "feeder_id", "event_ts", "severity", "stage", "anomaly_type"],
    ).to_pandas()
    anomalies["event_ts"] = _utc(anomalies["event_ts"])
    placed = readings.merge(fleet[["meter_id", "feeder_id"]], on="meter_id", how="left").assign(ts=_utc(readings["ts"]))
    incidents = pq.read_table(folder / "incidents.parquet").to_pandas()
    events = read_labels(labels, fleet) if labels else []
    return Run(placed, anomalies, incidents, events, slide_s, window_s)


def evaluate(run: Run) -> dict[str, Any]:
    """Figures by the protocol (`score`): `gridwatch` and `plain` side by side, with the size of the run.

    Alarms of windows come once a slide, so that with long slides an episode's pause is 1.5 slides and not 5 min.
    """
    gap_s = max(EPISODE_GAP_S, 1.5 * run.slide_s)
    meter_days = run.meters * run.days
    detection, labels = run.detection, run.labels
    children = run.incidents[run.incidents["parent_id"].notna()]
    ours = judge(labels, run.alarms, children, detection=detection, gap_s=gap_s, strict=True)
    none = children.head(0)
    plain = judge(labels, run.plain_alarms, none, detection=detection, gap_s=EPISODE_GAP_S, strict=False)
    sent = notifications(run.incidents)
    plain_sent = pd.DataFrame(
        [
            {"ts": e.start, "meter_id": e.meter_id, "feeder_id": e.feeder_id}
            for e in episodes(run.plain_alarms, gap_s=EPISODE_GAP_S)
        ],
        columns=["ts", "meter_id", "feeder_id"],
    )
    size = {"meters": run.meters, "days": run.days}
    return {
        **size,
        "readings": len(run.readings),
        "labels": len(run.labels),
        "gridwatch": {
            **score(labels, ours, meter_days=meter_days),
            "incidents": run.incidents["severity"].value_counts().to_dict(),
            "load": load(sent, run.labels, **size),  # type: ignore[arg-type]
        },
        "plain": {
            **score(labels, plain, meter_days=meter_days),
            "load": load(plain_sent, run.labels, **size),  # type: ignore[arg-type]
        },
    }


def _utc(times: pd.Series[Any]) -> pd.Series[Any]:
    aware: pd.Series[Any] = times.dt.tz_localize("UTC") if times.dt.tz is None else times.dt.tz_convert("UTC")
    return aware
