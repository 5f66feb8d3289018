"""Recall, precision, delay and false alarms of a set of alarms against labels. Never point-adjusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pipelines.anomalies.rules import FAMILIES
from pipelines.detection_settings import Detection
from pipelines.evaluation.alarms import Episode, episodes
from pipelines.evaluation.explained import (
    OF_FEEDER,
    Span,
    between,
    by_scope,
    expecting,
    explained,
    scopes,
    spans,
    with_reach,
)
from pipelines.evaluation.labels import GRACE, Label

OUT_OF_BAND = frozenset(
    {"sag", "swell", "spike", "interruption", "feeder_sag", "feeder_swell", "feeder_outage", "feeder_interruption",
     "phase_fault", "lateral_outage"}
)  # fmt: skip
OUT_OF_BAND_TYPES = frozenset(
    {"undervoltage", "overvoltage", "interruption", "sustained_undervoltage", "sustained_overvoltage",
     "feeder_undervoltage", "feeder_overvoltage", "feeder_outage"}
)  # fmt: skip
NEVER = pd.Timedelta(0)


def score(labels: Sequence[Label], judged: Judged, *, meter_days: float) -> dict[str, Any]:
    """Figures by the protocol of the design, whose sentences are quoted.

    - "Alarms of a meter <= 5 min apart are one episode; an episode is true when it overlaps a label (+5 min)": as far
      as it belongs to the label (`explained`). The rest of it is cut off and is false.
    - "Slow faults must be found before they end", the others within 5 min, each by an alarm of a type that the label
      expects; "Feeder faults: one incident expected": found by the feeder's own alarm.
    - "An alarm that stays on is counted again every 30 min": in the false alarms and in the precision, where a true
      part counts once. "Never point-adjusted F1".

    An episode counts for a kind by the types its labels expect. The plain rule knows neither types nor feeders'
    alarms (not `strict`).
    """
    found, strict = judged.episodes, judged.strict
    hits = {id(label): not _in_time(label, judged).empty for label in labels}
    delays = _delays(labels, judged)
    kinds = {}
    for kind in sorted({label.kind for label in labels}):
        mine = [label for label in labels if label.kind == kind]
        types = frozenset().union(*(label.types for label in mine)) - {""}
        kinds[kind] = _figures(mine, hits, [e for e in found if not (strict and types) or e.types & types], delays)
    band = [label for label in labels if label.kind in OUT_OF_BAND]
    in_band = [e for e in found if not strict or e.types & OUT_OF_BAND_TYPES]
    false = [e for e in found if not e.is_true]
    return {
        "all": _figures(labels, hits, found, delays),
        "out_of_band": _figures(band, hits, in_band, delays),
        "kinds": kinds,
        "false_alarms_per_meter_day": _false_alarms(false, meter_days),
        "false_minutes_per_meter_day": sum(e.minutes for e in false) / meter_days,
        "missed": [f"{x.kind} {sorted(x.meters)[0] if not x.is_feeder else x.feeder_id} {x.start:%m-%d %H:%M}"
                   for x in labels if not hits[id(x)]],
        "false": [f"{e.meter_id or e.feeder_id} {e.start:%m-%d %H:%M} {'+'.join(sorted(e.types))}"
                  + (f" x {e.count}" if e.count > 1 else "") for e in false][:200],
    }  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Alarms against labels. `alarms` (by scope, children of true feeder incidents left out) find the labels,
    `everything` (children too) gives the delays, `episodes` are cut at what the labels explain."""

    alarms: dict[str, pd.DataFrame]
    everything: dict[str, pd.DataFrame]
    episodes: list[Episode]
    strict: bool


def judge(
    labels: Sequence[Label],
    alarms: pd.DataFrame,
    children: pd.DataFrame,
    *,
    detection: Detection,
    gap_s: float,
    strict: bool,
) -> Judged:
    """Cut the alarms at the labels. `children`: incidents (meter_id, feeder_id, family, opened_at, last_anomaly_at) of
    meters under a feeder's; their alarms are no episodes of their own as far as the feeder's alarm is true."""
    reaching = with_reach(alarms, detection)
    everything = by_scope(reaching, gap_s=gap_s)
    of_feeders = {name: rows for name, rows in everything.items() if name.startswith(OF_FEEDER)}
    kept = without_children(reaching, children, spans(of_feeders, labels, strict=strict))
    scoped = by_scope(kept, gap_s=gap_s)
    kept = kept.assign(is_true=kept.index.isin(explained(scoped, spans(scoped, labels, strict=strict))))
    return Judged(scoped, everything, episodes(kept, gap_s=gap_s), strict)


def without_children(
    alarms: pd.DataFrame, children: pd.DataFrame, of_feeders: Mapping[str, Sequence[Span]]
) -> pd.DataFrame:
    """The alarms that no true alarm of their feeder explains: of a child opened at most 5 min after the feeder's event
    go those within the reach of their own rule. A child of a false feeder incident is judged by itself."""
    if children.empty or not of_feeders:
        return alarms
    keep = pd.Series(True, index=alarms.index)
    keys = alarms["meter_id"].fillna("") + "|" + alarms["anomaly_type"].map(FAMILIES).fillna("")
    groups = alarms.groupby(keys).groups
    for child in children.to_dict("records"):
        rows = groups.get(f"{child['meter_id']}|{child['family']}")
        if rows is None:
            continue
        for span in of_feeders.get(f"{OF_FEEDER}{child['feeder_id']}", ()):
            event = span.label
            if child["opened_at"] <= event.end + GRACE:
                own = alarms.loc[rows]
                last = (event.end + pd.to_timedelta(own["until_s"], unit="s")).clip(upper=child["last_anomaly_at"])
                inside = (own["ts"] >= max(child["opened_at"], event.start)) & (own["ts"] <= last)
                keep.loc[inside[inside].index] = False
    return alarms[keep]


def _in_time(label: Label, judged: Judged) -> pd.DataFrame:
    """Alarms that find the label: of its feeder, or of its meters, of an expected type, in time."""
    if label.is_feeder and judged.strict:
        return _of(label, judged.alarms, [f"{OF_FEEDER}{label.feeder_id}"], strict=True)
    return _of(label, judged.alarms, label.meters, strict=judged.strict)


def _of(
    label: Label, alarms: Mapping[str, pd.DataFrame], names: Iterable[str], *, strict: bool, late: pd.Timedelta = NEVER
) -> pd.DataFrame:
    some = [
        expecting(
            between(alarms[name], label.start, label.until + late),
            label,
            of_meter=not name.startswith(OF_FEEDER),
            strict=strict,
        )
        for name in names
        if name in alarms
    ]
    return pd.concat(some) if some else pd.DataFrame(columns=["known_at"])


def _delays(labels: Sequence[Label], judged: Judged) -> dict[int, float]:
    """Seconds from the start of a label to the first alarm of its meters or feeder known in time."""
    found = {}
    for label in labels:
        known = _of(label, judged.everything, scopes(label), strict=judged.strict, late=GRACE)["known_at"]
        known = known[known <= label.until + GRACE]
        if len(known):
            found[id(label)] = (known.min() - label.start).total_seconds()
    return found


def _figures(
    labels: Sequence[Label], hits: dict[int, bool], episodes: Sequence[Episode], delays: dict[int, float]
) -> dict[str, Any]:
    found = sum(hits[id(label)] for label in labels)
    recall = found / len(labels) if labels else None
    true = sum(e.is_true for e in episodes)
    false = sum(e.count for e in episodes if not e.is_true)
    precision = true / (true + false) if episodes else None
    f1 = 2 * recall * precision / (recall + precision) if recall and precision else (0.0 if labels else None)
    seconds = pd.Series([delays[id(label)] for label in labels if id(label) in delays and hits[id(label)]], dtype=float)
    return {
        "labels": len(labels),
        "found": found,
        "recall": recall,
        "episodes": len(episodes),
        "false": false,
        "precision": precision,
        "f1": f1,
        "delay_p50_s": None if seconds.empty else float(seconds.quantile(0.5)),
        "delay_p95_s": None if seconds.empty else float(seconds.quantile(0.95)),
    }


def _false_alarms(false: Sequence[Episode], meter_days: float) -> dict[str, float]:
    counted: dict[str, int] = dict.fromkeys(("WARNING", "ERROR", "CRITICAL"), 0)
    for episode in false:
        counted[episode.severity] += episode.count
    return {name: count / meter_days for name, count in counted.items()}
