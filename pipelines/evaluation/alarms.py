"""Alarms as the evaluation counts them: episodes of one meter or feeder, from anomalies and incidents."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from pipelines.anomalies.rules import NEVER_OPEN, RANKS
from pipelines.evaluation.explained import scope_of

REPEATED = pd.Timedelta(minutes=30)


@dataclass(frozen=True)
class Episode:
    """Alarms of one meter or feeder without a longer pause, all explained by labels (`is_true`) or none of them.
    `known_at`: when the first could be known."""

    meter_id: str | None
    feeder_id: str | None
    start: pd.Timestamp
    end: pd.Timestamp
    known_at: pd.Timestamp
    severity: str
    types: frozenset[str]
    is_true: bool = False

    @property
    def count(self) -> int:
        """How often it counts. A false one, by the protocol: "An alarm that stays on is counted again every 30 min".
        A true one counts once however long it stays on: a long fault shall not make up for false alarms."""
        return 1 if self.is_true else 1 + int((self.end - self.start) // REPEATED)

    @property
    def minutes(self) -> float:
        """From its first alarm to its last, at least one."""
        return max(1.0, (self.end - self.start).total_seconds() / 60)


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
    """Alarms of one meter (of a feeder, where there is no meter) at most `gap_s` apart are one episode; with a column
    is_true it is cut into parts that are explained by a label and parts that are not."""
    if alarms.empty:
        return []
    rows = alarms.assign(scope=scope_of(alarms)).sort_values(["scope", "ts"], kind="stable").reset_index(drop=True)
    if "is_true" not in rows:
        rows["is_true"] = False
    new = rows["scope"].ne(rows["scope"].shift()) | (rows["ts"].diff() > pd.Timedelta(seconds=gap_s))
    new |= rows["is_true"].ne(rows["is_true"].shift())
    starts = list(rows.index[new])
    known = rows.groupby(new.cumsum())["known_at"].min()
    names = ("meter_id", "feeder_id", "ts", "severity", "anomaly_type", "is_true")
    meter, feeder, ts, severity, types, true = (list(rows[name]) for name in names)
    return [
        Episode(
            meter[first] if isinstance(meter[first], str) else None,
            feeder[first] if isinstance(feeder[first], str) else None,
            ts[first],
            ts[end - 1],
            at,
            max(severity[first:end], key=RANKS.__getitem__),
            frozenset(types[first:end]),
            bool(true[first]),
        )
        for first, end, at in zip(starts, [*starts[1:], len(rows)], known, strict=True)
    ]


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
