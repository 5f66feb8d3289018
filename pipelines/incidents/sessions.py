"""Incidents from anomalies: sessions of one (scope, family), a pure function of the anomalies and the clock.

Plain Python over rows of the table anomalies: a batch holds few of them, and planning a Spark job for them took
longer than reading them (docs/adr/0006). Times are aware (UTC).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from pipelines.anomalies.rules import FAMILIES
from pipelines.incidents.relations import Key, relate
from pipelines.incidents.rows import Anomaly, Session, describe, ends, lasts, opens
from pipelines.settings import Incidents

NEEDED = (
    "anomaly_id", "meter_id", "feeder_id", "anomaly_type", "severity", "stage", "event_ts", "observed", "score",
    "message",
)  # fmt: skip
"""Columns of the table anomalies that incidents are made of."""


def incident_key(anomaly: Anomaly) -> Key | None:
    """The key of the incident that an anomaly opens, continues or ends; None when it does none of these.

    INFO and rules that never open an incident touch none, but for "back", the INFO that ends a silence, and for
    what keeps an incident open: the hysteresis of the band, INFO of stage window, and an outage that lasts, INFO of
    stage feeder.
    """
    family = FAMILIES.get(anomaly["anomaly_type"])
    if family is None or not (opens(anomaly) or ends(anomaly) or _holds(anomaly)):
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
    return [session.row for session in cut(anomalies, clock=clock, settings=settings, step_s=step_s)]


def cut(
    anomalies: Iterable[Anomaly],
    begun: Mapping[Key, Session] = MappingProxyType({}),
    *,
    clock: datetime | None,
    settings: Incidents,
    step_s: tuple[float, float],
) -> list[Session]:
    """The same with what it takes to go on with them, by key and opening.

    `begun`: of these keys of meters a session that is open, made by the same settings. Only their anomalies later than
    its last one need be given; the rows are those that all of its anomalies would give. Not of feeders: a session
    whose outage lasts may be open while the next one has begun.
    """
    by_key: dict[Key, dict[str, Anomaly]] = {key: {} for key in begun}
    for anomaly in anomalies:
        if (key := incident_key(anomaly)) is not None:
            by_key.setdefault(key, {})[anomaly["anomaly_id"]] = anomaly
    return [
        session
        for key, unique in sorted(by_key.items())
        for session in _cut_key(key, sorted(unique.values(), key=_in_order), begun.get(key), clock, settings, step_s)
    ]


def _cut_key(
    key: Key,
    ordered: Sequence[Anomaly],
    begun: Session | None,
    clock: datetime | None,
    settings: Incidents,
    step_s: tuple[float, float],
) -> Iterator[Session]:
    longest_gap = off_delay(key[2], settings)
    for session in _sessions(ordered, longest_gap, [begun.last] if begun else []):
        first = 1 if begun else _opening(session, settings, step_s)
        if first is not None:
            yield describe(key, session, first, begun, clock=clock, longest_gap=longest_gap)
        begun = None


def _in_order(anomaly: Anomaly) -> tuple[datetime, str]:
    return anomaly["event_ts"], anomaly["anomaly_id"]


def _holds(anomaly: Anomaly) -> bool:
    kept_open = {"undervoltage": "window", "overvoltage": "window", "feeder_outage": "feeder"}
    return bool(anomaly["severity"] == "INFO" and kept_open.get(anomaly["anomaly_type"]) == anomaly["stage"])


def _opening(session: Sequence[Anomaly], settings: Incidents, step_s: tuple[float, float]) -> int | None:
    """Index of the anomaly that opens the incident; None when none does.

    Worse than WARNING opens at once; a WARNING when it is the k-th of its rule within n evaluations.
    """
    for index, anomaly in enumerate(session):
        if opens(anomaly) and (anomaly["severity"] != "WARNING" or _is_kth(session[: index + 1], settings, step_s)):
            return index
    return None


def _is_kth(session: Sequence[Anomaly], settings: Incidents, step_s: tuple[float, float]) -> bool:
    if settings.warning_k == 1:
        return True
    last = session[-1]
    span = _span(settings, step_s[last["stage"] != "reading"])
    alike = (a for a in session if a["anomaly_type"] == last["anomaly_type"] and opens(a))
    return len([a for a in alike if last["event_ts"] - a["event_ts"] < span]) >= settings.warning_k


def _span(settings: Incidents, step_s: float) -> timedelta:
    # Half a step more: readings come with jitter.
    return timedelta(seconds=(settings.warning_n - 0.5) * step_s)


def _sessions(ordered: Sequence[Anomaly], longest_gap: timedelta, begun: Sequence[Anomaly]) -> Iterator[list[Anomaly]]:
    """Anomalies of one key, cut where a gap is too long and after what ends an incident; the first session goes on
    with `begun`.

    An outage that lasts continues an outage only, and does not hide the next event: what comes after a gap in the
    events themselves is an incident of its own.
    """
    session = list(begun)
    for anomaly in ordered:
        if session and _is_over(session, anomaly, longest_gap):
            yield session
            session = []
        if not lasts(anomaly) or any(one["anomaly_type"] == anomaly["anomaly_type"] for one in session):
            session.append(anomaly)
    if session:
        yield session


def _is_over(session: Sequence[Anomaly], following: Anomaly, longest_gap: timedelta) -> bool:
    before = session[-1]
    if lasts(before) and not lasts(following):
        before = next(one for one in reversed(session) if not lasts(one))
    return ends(before) or following["event_ts"] - before["event_ts"] > longest_gap
