"""The row of an incident, of the anomalies of its session, and what it takes to go on with it.

Plain Python, like `incidents`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from types import MappingProxyType
from typing import Any

from pipelines.anomalies.rules import NEVER_OPEN, RANKS
from pipelines.incidents.relations import Key

Anomaly = Mapping[str, Any]

IMPLAUSIBLE_SPAN = timedelta(seconds=900)
IMPLAUSIBLE_TIMES = 3

_NO_ROW: Mapping[str, Any] = MappingProxyType(
    dict.fromkeys(("meter_id", "feeder_id", "severity", "anomaly_type", "message", "last_anomaly_at"))
    | {"anomalies": 0, "severity_history": []}
)


@dataclass(frozen=True)
class Session:
    """An incident, and what of its anomalies still matters when later ones go on with it; enough for meters only."""

    row: dict[str, Any]
    """As `sessions` gives it."""
    worst: Anomaly
    """The one of worst_value."""
    last: Anomaly
    """The latest: what decides whether the next one goes on with it."""
    implausible: tuple[datetime, ...]
    """Times of implausible values, IMPLAUSIBLE_SPAN back from the last anomaly."""


def opens(anomaly: Anomaly) -> bool:
    """Whether it may open an incident, and counts in it."""
    return bool(anomaly["severity"] != "INFO" and anomaly["anomaly_type"] not in NEVER_OPEN)


def ends(anomaly: Anomaly) -> bool:
    """Whether it is the "back" that ends a silence."""
    return bool(anomaly["severity"] == "INFO" and anomaly["anomaly_type"] == "meter_silent")


def lasts(anomaly: Anomaly) -> bool:
    """Whether it says that an outage goes on."""
    return bool(anomaly["anomaly_type"] == "feeder_outage" and anomaly["severity"] == "INFO")


def describe(
    key: Key,
    session: Sequence[Anomaly],
    first: int,
    begun: Session | None,
    *,
    clock: datetime | None,
    longest_gap: timedelta,
) -> Session:
    """The incident of a session: of its anomalies from index `first` on, after those of `begun`."""
    scope, scope_id, family = key
    added = session[first:]
    known = begun.row if begun else {**_NO_ROW, "opened_at": added[0]["event_ts"]}
    found = [anomaly for anomaly in added if opens(anomaly)]
    opened_at = known["opened_at"]
    last_at = max((one["event_ts"] for one in added if not ends(one)), default=known["last_anomaly_at"])
    closed_at = _closed_at(session, last_at + longest_gap, clock)
    implausible = [
        *(begun.implausible if begun else ()),
        *(one["event_ts"] for one in found if one["anomaly_type"] == "implausible_value"),
    ]
    steps = _escalations(found, implausible, RANKS.get(known["severity"], 0))
    history = [
        *known["severity_history"],
        *({"at": epoch_ms(s["event_ts"]), "severity": graded, "anomalyType": s["anomaly_type"]} for s, graded in steps),
    ]
    latest = {**steps[-1][0], "severity": steps[-1][1]} if steps else known
    worst = max((*found, *((begun.worst,) if begun else ())), key=_badness)
    row = {
        "incident_id": sha256(f"{scope}|{scope_id}|{family}|{epoch_ms(opened_at)}".encode()).hexdigest(),
        "scope": scope,
        "meter_id": _highest((known, *found), "meter_id"),
        "feeder_id": _highest((known, *found), "feeder_id"),
        "family": family,
        "status": "open" if closed_at is None else "closed",
        "severity": latest["severity"],
        "anomaly_type": latest["anomaly_type"],
        "message": latest["message"],
        "opened_at": opened_at,
        "last_anomaly_at": last_at,
        "closed_at": closed_at,
        "duration_s": (last_at - opened_at).total_seconds(),
        "anomalies": known["anomalies"] + len(found),
        "alerts": len(history),
        "worst_value": worst["observed"],
        "severity_history": history,
        "parent_id": None,
        "muted": None,
    }
    recent = tuple(at for at in implausible if at >= session[-1]["event_ts"] - IMPLAUSIBLE_SPAN)
    return Session(row, worst, session[-1], recent)


def _closed_at(session: Sequence[Anomaly], over_at: datetime, clock: datetime | None) -> datetime | None:
    if ends(session[-1]):
        ended_at: datetime = session[-1]["event_ts"]
        return ended_at
    return over_at if clock is not None and over_at <= clock else None


def _escalations(found: Sequence[Anomaly], implausible: Sequence[datetime], highest: int) -> list[tuple[Anomaly, str]]:
    """The anomalies of a session that are worse than all before them, with their severity in this incident.

    Of anomalies at the same moment only the worst counts, so that their order does not matter. `implausible`: times of
    the session's implausible values; `highest`: rank of the worst before these anomalies.
    """
    steps: list[tuple[Anomaly, str]] = []
    for _, together in groupby(found, key=lambda anomaly: anomaly["event_ts"]):
        graded = ((anomaly, _severity(anomaly, implausible)) for anomaly in together)
        worst = max(graded, key=lambda step: (RANKS[step[1]], *_badness(step[0])))
        if RANKS[worst[1]] > highest:
            highest = RANKS[worst[1]]
            steps.append(worst)
    return steps


def _severity(anomaly: Anomaly, implausible: Sequence[datetime]) -> str:
    """Severity of an anomaly; the third implausible value within 15 minutes is an ERROR."""
    if anomaly["anomaly_type"] == "implausible_value":
        at = anomaly["event_ts"]
        recent = bisect_right(implausible, at) - bisect_left(implausible, at - IMPLAUSIBLE_SPAN)
        if recent >= IMPLAUSIBLE_TIMES:
            return "ERROR"
    return str(anomaly["severity"])


def _badness(anomaly: Anomaly) -> tuple[Any, ...]:
    score = anomaly["score"]
    return score is not None, score or 0.0, anomaly["event_ts"], anomaly["anomaly_id"]


def _highest(found: Sequence[Anomaly], name: str) -> str | None:
    return max((anomaly[name] for anomaly in found if anomaly[name] is not None), default=None)


def epoch_ms(moment: datetime) -> int:
    """Epoch milliseconds of an aware moment, exact.

    >>> from datetime import UTC
    >>> epoch_ms(datetime(1970, 1, 1, 0, 0, 1, 999_000, tzinfo=UTC))
    1999
    """
    return (moment - datetime.fromtimestamp(0, moment.tzinfo)) // timedelta(milliseconds=1)
