"""Alarms as the evaluation counts them: episodes of one meter or feeder, from anomalies and incidents."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipelines.transforms.rules import NEVER_OPEN, RANKS

REPEATED = pd.Timedelta(minutes=30)


@dataclass(frozen=True)
class Episode:
    """Alarms of one meter or feeder without a longer pause. `known_at`: when the first could be known."""

    meter_id: str | None
    feeder_id: str | None
    start: pd.Timestamp
    end: pd.Timestamp
    known_at: pd.Timestamp
    severity: str
    types: frozenset[str]

    @property
    def count(self) -> int:
        """How often it counts: an alarm that stays on is counted again every 30 minutes."""
        return 1 + int((self.end - self.start) // REPEATED)


def alarms_of(anomalies: pd.DataFrame, *, slide_s: float) -> pd.DataFrame:
    """Alarms of a detection: anomalies of WARNING and worse, but for rules that never open an incident.

    Out: meter_id, feeder_id, ts, known_at, severity, anomaly_type, stage. What is found on windows is known at the
    end of the slide.
    """
    loud = anomalies["severity"].isin(list(RANKS)) & ~anomalies["anomaly_type"].isin(NEVER_OPEN)
    found = anomalies[loud].rename(columns={"event_ts": "ts"})
    ends = found["ts"].dt.ceil(f"{round(slide_s * 1000)}ms")
    known = found["ts"].where(found["stage"] == "reading", ends)
    return found.assign(known_at=known)[
        ["meter_id", "feeder_id", "ts", "known_at", "severity", "anomaly_type", "stage"]
    ].sort_values("ts")


def episodes(alarms: pd.DataFrame, *, gap_s: float) -> list[Episode]:
    """Alarms of one meter (of a feeder, where there is no meter) at most `gap_s` apart are one episode."""
    scope = alarms["meter_id"].where(alarms["meter_id"].notna(), "\0" + alarms["feeder_id"].fillna(""))
    found = []
    for _, rows in alarms.assign(scope=scope).groupby("scope", sort=True):
        part = (rows["ts"].diff() > pd.Timedelta(seconds=gap_s)).cumsum()
        found += [_episode(some) for _, some in rows.groupby(part.to_numpy())]
    return found


def _episode(rows: pd.DataFrame) -> Episode:
    first = rows.iloc[0]
    worst = max(rows["severity"], key=lambda name: RANKS[name])
    feeder = first["feeder_id"] if isinstance(first["feeder_id"], str) else None
    meter = first["meter_id"] if isinstance(first["meter_id"], str) else None
    ends = rows["ts"].iloc[-1]
    return Episode(meter, feeder, first["ts"], ends, rows["known_at"].min(), worst, frozenset(rows["anomaly_type"]))


def notifications(incidents: pd.DataFrame) -> pd.DataFrame:
    """One row a notification: ts, meter_id, feeder_id, severity, scope. Of an incident that notified less often
    than it rose the first steps are taken."""
    rows = [
        {
            "ts": pd.Timestamp(step["at"], unit="ms", tz="UTC"),
            "meter_id": incident["meter_id"],
            "feeder_id": incident["feeder_id"],
            "severity": step["severity"],
            "scope": incident["scope"],
        }
        for incident in incidents.to_dict("records")
        for step in list(incident["severity_history"])[: incident["alerts"]]
    ]
    return pd.DataFrame(rows, columns=["ts", "meter_id", "feeder_id", "severity", "scope"])
