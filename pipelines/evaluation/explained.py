"""Which alarms belong to a label: in its scope, of a type that it expects, and no later than its rule looks back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipelines.anomalies.rules import EXPLAINED_BY_FEEDER, FAMILIES
from pipelines.detection_settings import Detection
from pipelines.evaluation.labels import GRACE, Label
from pipelines.windows.look_back import NOISE_SLIDES, slides_in, windows_in

CHILD_TYPES = frozenset(name for name, family in FAMILIES.items() if family in EXPLAINED_BY_FEEDER)
"""What an event of the feeder makes its meters say."""

OF_FEEDER = "\x01"
"""Begins the key of a feeder's scope, so that a meter of the same name is another. (NumPy drops a NUL.)"""


@dataclass(frozen=True)
class Span:
    """A label that was alarmed in time: the end of what belongs to it, and the episodes (`by_scope`) that do."""

    label: Label
    until: pd.Timestamp
    episodes: frozenset[int]


def reach_s(detection: Detection) -> dict[str, float]:
    """How long after its fault a rule of stage window or feeder may still speak, in seconds, by anomaly type; the
    rules that are not named: one slide. Of stage reading it is 0.

    A rule that asks all of its span (stuck_sensor, voltage_step, meter_silent, feeder rules) is over at the end of
    the slide; a mean, a median or a baseline (sustained_*, noisy_sensor, voltage_drift, voltage_deviation) holds the
    fault until its span has passed, in whole windows or slides.
    """
    sustained = windows_in(detection.sustained_s, detection) * detection.window_s
    return {
        "sustained_undervoltage": sustained,
        "sustained_overvoltage": sustained,
        "noisy_sensor": NOISE_SLIDES * detection.slide_s,
        "voltage_drift": slides_in(detection.drift_s, detection) * detection.slide_s,
        "voltage_deviation": detection.window_s,
    }


def with_reach(alarms: pd.DataFrame, detection: Detection) -> pd.DataFrame:
    """`alarms` with `begin_s` and `until_s`, seconds after a label's end.

    Up to begin_s (5 min; a slide, where that is longer, since a window's alarm is dated at the end of its slide) an
    alarm may begin; up to until_s one that began in time belongs to it: the reach of its rule and the off delay (5 min,
    as the protocol's "+5 min").
    """
    reach = alarms["anomaly_type"].map(reach_s(detection)).fillna(detection.slide_s)
    grace_s, of_reading = GRACE.total_seconds(), alarms["stage"] == "reading"
    return alarms.assign(
        until_s=reach.mask(of_reading, 0.0) + grace_s,
        begin_s=pd.Series(max(grace_s, detection.slide_s), index=alarms.index).mask(of_reading, grace_s),
    )


def expected(label: Label, *, of_meter: bool) -> frozenset[str]:
    """Anomaly types that the label expects of a meter, or of its feeder; empty: any. A feeder's event expects of its
    meters what it explains."""
    types = label.types - {""}
    return types | CHILD_TYPES if types and label.is_feeder and of_meter else types


def expecting(alarms: pd.DataFrame, label: Label, *, of_meter: bool, strict: bool) -> pd.DataFrame:
    """The alarms whose type the label expects; not `strict`: all."""
    types = expected(label, of_meter=of_meter)
    return alarms[alarms["anomaly_type"].isin(types)] if strict and types else alarms


def by_scope(alarms: pd.DataFrame, *, gap_s: float) -> dict[str, pd.DataFrame]:
    """Alarms of each meter, and of each feeder by itself (`scope_of`), by time, with the number of their `episode`:
    alarms at most `gap_s` apart have the same."""
    if alarms.empty:
        return {}
    parts = {}
    for name, rows in alarms.groupby(scope_of(alarms), sort=True):
        ordered = rows.sort_values("ts", kind="stable")
        parts[str(name)] = ordered.assign(episode=(ordered["ts"].diff() > pd.Timedelta(seconds=gap_s)).cumsum())
    return parts


def scope_of(alarms: pd.DataFrame) -> pd.Series[Any]:
    """The key of each alarm's scope: its meter, or, of a feeder's alarm, the feeder."""
    return alarms["meter_id"].where(alarms["meter_id"].notna(), OF_FEEDER + alarms["feeder_id"].fillna(""))


def scopes(label: Label) -> list[str]:
    """Keys of the scopes that a label explains: its meters, and the feeder of a feeder's event."""
    return [*label.meters, *([OF_FEEDER + label.feeder_id] if label.is_feeder and label.feeder_id else [])]


def spans(alarms: Mapping[str, pd.DataFrame], labels: Iterable[Label], *, strict: bool) -> dict[str, list[Span]]:
    """What is explained, by scope: of the episodes in which an expected alarm speaks from a label's start to
    `begin_s` after its end, the time from its start to the latest `until_s` of such alarms.

    In: `by_scope(with_reach(...))`.
    """
    found: dict[str, list[Span]] = {}
    for label in labels:
        for scope in scopes(label):
            if scope not in alarms:
                continue
            near = between(alarms[scope], label.start, label.end + pd.Timedelta(seconds=alarms[scope]["until_s"].max()))
            mine = expecting(near, label, of_meter=not scope.startswith(OF_FEEDER), strict=strict)
            touching = frozenset(mine["episode"][mine["ts"] <= label.end + pd.to_timedelta(mine["begin_s"], unit="s")])
            if touching:
                late = label.end + pd.to_timedelta(mine["until_s"], unit="s")
                reach = mine["until_s"][mine["episode"].isin(touching) & (mine["ts"] <= late)].max()
                found.setdefault(scope, []).append(Span(label, label.end + pd.Timedelta(seconds=reach), touching))
    return found


def between(alarms: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Rows of alarms sorted by time within [start, end]."""
    times = alarms["ts"]
    return alarms.iloc[int(times.searchsorted(start, "left")) : int(times.searchsorted(end, "right"))]


def explained(alarms: Mapping[str, pd.DataFrame], found: Mapping[str, Sequence[Span]]) -> list[Any]:
    """Index of the alarms (`by_scope`) that lie within a span of their scope and episode, each up to its own reach."""
    inside: list[Any] = []
    for scope, some in found.items():
        for span in some:
            rows = between(alarms[scope], span.label.start, span.until)
            in_reach = rows["ts"] <= span.label.end + pd.to_timedelta(rows["until_s"], unit="s")
            inside.extend(rows.index[rows["episode"].isin(span.episodes) & in_reach])
    return inside
