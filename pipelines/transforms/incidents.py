"""Incidents from anomalies: sessions of one (scope, family), a pure function of the anomalies and the clock.

Plain Python over rows of the table anomalies: a batch holds few of them, and planning a Spark job for them took
longer than reading them (docs/adr/0006). Times are aware (UTC).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import groupby
from typing import Any

from pipelines.settings import Incidents
from pipelines.transforms.incident_relations import Key, relate
from pipelines.transforms.rules import FAMILIES, NEVER_OPEN, RANKS

Anomaly = Mapping[str, Any]
NEEDED = (
    "anomaly_id", "meter_id", "feeder_id", "anomaly_type", "severity", "stage", "event_ts", "observed", "score",
    "message",
)  # fmt: skip
"""Columns of the table anomalies that incidents are made of."""

IMPLAUSIBLE_SPAN = timedelta(seconds=900)
IMPLAUSIBLE_TIMES = 3


def incident_key(anomaly: Anomaly) -> Key | None:
    """The key of the incident that an anomaly opens, continues or ends; None when it does none of these.

    INFO and rules that never open an incident touch none, but for "back", the INFO that ends a silence, and for
    what keeps an incident open: the hysteresis of the band, INFO of stage window, and an outage that lasts, INFO of
    stage feeder.
    """
    family = FAMILIES.get(anomaly["anomaly_type"])
    if family is None or not (_opens(anomaly) or _ends(anomaly) or _holds(anomaly)):
        return None
    if anomaly["meter_id"] is not None:
        return "meter", anomaly["meter_id"], family
    return "feeder", anomaly["feeder_id"], family


def off_delay(family: str, settings: Incidents) -> timedelta:
    """How long an incident outlives its last anomaly; a silence lasts from heartbeat to heartbeat."""
    return timedelta(seconds=settings.off_delay + (settings.silence_heartbeat if family == "silence" else 0))


def look_back(settings: Incidents, step_s: tuple[float, float]) -> timedelta:
    """How long before an incident's opening there may be anomalies that count to it: the longest span of k of n."""
    return _span(settings, max(step_s)) if settings.warning_n > 1 else timedelta(0)


def sessionise(
    anomalies: Iterable[Anomaly],
    *,
    clock: datetime | None,
    settings: Incidents,
    step_s: tuple[float, float] = (10.0, 60.0),
) -> list[dict[str, Any]]:
    """Incidents of all given anomalies, as rows of the table incidents, with parents and notifications decided.

    In: rows with the columns NEEDED, all of each key from some incident's opening on. `clock` is the latest closed
    window end: an incident whose last anomaly is further back than the off delay is closed. `step_s`: seconds
    between two evaluations of a rule, of stage reading and of the others. Any order and repetition of the anomalies
    gives the same rows.
    """
    rows = sessions(anomalies, clock=clock, settings=settings, step_s=step_s)
    return relate(rows, settings=settings, lead_s=step_s[1])


def sessions(
    anomalies: Iterable[Anomaly], *, clock: datetime | None, settings: Incidents, step_s: tuple[float, float]
) -> list[dict[str, Any]]:
    """The same without parents, as if everything were notified: what `relate` starts from."""
    by_key: dict[Key, dict[str, Anomaly]] = {}
    for anomaly in anomalies:
        if (key := incident_key(anomaly)) is not None:
            by_key.setdefault(key, {})[anomaly["anomaly_id"]] = anomaly
    return [
        _describe(key, session[first:], clock=clock, settings=settings)
        for key, unique in sorted(by_key.items())
        for session in _sessions(sorted(unique.values(), key=_in_order), off_delay(key[2], settings))
        if (first := _opening(session, settings, step_s)) is not None
    ]


def _in_order(anomaly: Anomaly) -> tuple[datetime, str]:
    return anomaly["event_ts"], anomaly["anomaly_id"]


def _opens(anomaly: Anomaly) -> bool:
    return bool(anomaly["severity"] != "INFO" and anomaly["anomaly_type"] not in NEVER_OPEN)


def _ends(anomaly: Anomaly) -> bool:
    return bool(anomaly["severity"] == "INFO" and anomaly["anomaly_type"] == "meter_silent")


def _holds(anomaly: Anomaly) -> bool:
    kept_open = {"undervoltage": "window", "overvoltage": "window", "feeder_outage": "feeder"}
    return bool(anomaly["severity"] == "INFO" and kept_open.get(anomaly["anomaly_type"]) == anomaly["stage"])


def _opening(session: Sequence[Anomaly], settings: Incidents, step_s: tuple[float, float]) -> int | None:
    """Index of the anomaly that opens the incident; None when none does.

    Worse than WARNING opens at once; a WARNING when it is the k-th of its rule within n evaluations.
    """
    for index, anomaly in enumerate(session):
        if _opens(anomaly) and (anomaly["severity"] != "WARNING" or _is_kth(session[: index + 1], settings, step_s)):
            return index
    return None


def _is_kth(session: Sequence[Anomaly], settings: Incidents, step_s: tuple[float, float]) -> bool:
    if settings.warning_k == 1:
        return True
    last = session[-1]
    span = _span(settings, step_s[last["stage"] != "reading"])
    alike = (a for a in session if a["anomaly_type"] == last["anomaly_type"] and _opens(a))
    return len([a for a in alike if last["event_ts"] - a["event_ts"] < span]) >= settings.warning_k


def _span(settings: Incidents, step_s: float) -> timedelta:
    # Half a step more: readings come with jitter.
    return timedelta(seconds=(settings.warning_n - 0.5) * step_s)


def _sessions(ordered: Sequence[Anomaly], longest_gap: timedelta) -> Iterator[list[Anomaly]]:
    """Anomalies of one key, cut where a gap is too long and after what ends an incident.

    An outage that lasts continues an outage only, and does not hide the next event: what comes after a gap in the
    events themselves is an incident of its own.
    """
    session: list[Anomaly] = []
    for anomaly in ordered:
        if session and _is_over(session, anomaly, longest_gap):
            yield session
            session = []
        if not _lasts(anomaly) or any(one["anomaly_type"] == anomaly["anomaly_type"] for one in session):
            session.append(anomaly)
    if session:
        yield session


def _is_over(session: Sequence[Anomaly], following: Anomaly, longest_gap: timedelta) -> bool:
    before = session[-1]
    if _lasts(before) and not _lasts(following):
        before = next(one for one in reversed(session) if not _lasts(one))
    return _ends(before) or following["event_ts"] - before["event_ts"] > longest_gap


def _lasts(anomaly: Anomaly) -> bool:
    return bool(anomaly["anomaly_type"] == "feeder_outage" and anomaly["severity"] == "INFO")


def _describe(key: Key, session: list[Anomaly], *, clock: datetime | None, settings: Incidents) -> dict[str, Any]:
    scope, scope_id, family = key
    found = [anomaly for anomaly in session if _opens(anomaly)]
    opened_at = session[0]["event_ts"]
    last_at = max(anomaly["event_ts"] for anomaly in session if not _ends(anomaly))
    closed_at = _closed_at(session, last_at + off_delay(family, settings), clock)
    steps = _escalations(found)
    latest, severity = steps[-1]
    return {
        "incident_id": sha256(f"{scope}|{scope_id}|{family}|{epoch_ms(opened_at)}".encode()).hexdigest(),
        "scope": scope,
        "meter_id": _highest(found, "meter_id"),
        "feeder_id": _highest(found, "feeder_id"),
        "family": family,
        "status": "open" if closed_at is None else "closed",
        "severity": severity,
        "anomaly_type": latest["anomaly_type"],
        "message": latest["message"],
        "opened_at": opened_at,
        "last_anomaly_at": last_at,
        "closed_at": closed_at,
        "duration_s": (last_at - opened_at).total_seconds(),
        "anomalies": len(found),
        "alerts": len(steps),
        "worst_value": max(found, key=_badness)["observed"],
        "severity_history": [
            {"at": epoch_ms(step["event_ts"]), "severity": graded, "anomalyType": step["anomaly_type"]}
            for step, graded in steps
        ],
        "parent_id": None,
        "muted": None,
    }


def _closed_at(session: Sequence[Anomaly], over_at: datetime, clock: datetime | None) -> datetime | None:
    if _ends(session[-1]):
        ended_at: datetime = session[-1]["event_ts"]
        return ended_at
    return over_at if clock is not None and over_at <= clock else None


def _escalations(found: Sequence[Anomaly]) -> list[tuple[Anomaly, str]]:
    """The anomalies of a session that are worse than all before them, with their severity in this incident.

    Of anomalies at the same moment only the worst counts, so that their order does not matter.
    """
    implausible = [anomaly["event_ts"] for anomaly in found if anomaly["anomaly_type"] == "implausible_value"]
    steps: list[tuple[Anomaly, str]] = []
    highest = 0
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
