"""Recall, precision, delay and false alarms of a set of alarms against labels. Never point-adjusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pandas as pd

from pipelines.evaluation.alarms import Episode
from pipelines.evaluation.labels import GRACE, Label

OUT_OF_BAND = frozenset(
    {"sag", "swell", "spike", "interruption", "feeder_sag", "feeder_swell", "feeder_outage", "feeder_interruption",
     "phase_fault", "lateral_outage"}
)  # fmt: skip
OUT_OF_BAND_TYPES = frozenset(
    {"undervoltage", "overvoltage", "interruption", "sustained_undervoltage", "sustained_overvoltage",
     "feeder_undervoltage", "feeder_overvoltage", "feeder_outage"}
)  # fmt: skip
Matches = Callable[[Label, Episode], bool]


def score(
    labels: Sequence[Label], episodes: Sequence[Episode], alarms: pd.DataFrame, *, meter_days: float, strict: bool
) -> dict[str, Any]:
    """Figures of `episodes` (no children of feeder incidents among them) and of all `alarms` for the delays.

    `strict`: an event of a feeder must be found by the feeder's own alarm, and an episode counts for a kind only
    by the types its labels expect; the plain rule knows neither. Keys: kinds, all, out_of_band, false_alarms.
    """
    by_meter, by_feeder = _index(labels)
    true = [_is_true(episode, by_meter, by_feeder) for episode in episodes]
    hits = {id(label): _is_found(label, episodes, strict=strict) for label in labels}
    delays = _delays(labels, alarms)
    kinds = {}
    for kind in sorted({label.kind for label in labels}):
        mine = [label for label in labels if label.kind == kind]
        types = frozenset().union(*(label.types for label in mine))
        judged = [ok for episode, ok in zip(episodes, true, strict=True) if not strict or episode.types & types]
        kinds[kind] = _figures(mine, hits, judged, delays)
    band = [label for label in labels if label.kind in OUT_OF_BAND]
    in_band = [ok for e, ok in zip(episodes, true, strict=True) if not strict or e.types & OUT_OF_BAND_TYPES]
    return {
        "all": _figures(labels, hits, true, delays),
        "out_of_band": _figures(band, hits, in_band, delays),
        "kinds": kinds,
        "false_alarms_per_meter_day": _false_alarms(episodes, true, meter_days),
        "missed": [f"{x.kind} {sorted(x.meters)[0] if not x.is_feeder else x.feeder_id} {x.start:%m-%d %H:%M}"
                   for x in labels if not hits[id(x)]],
        "false": [f"{e.meter_id or e.feeder_id} {e.start:%m-%d %H:%M} {'+'.join(sorted(e.types))}"
                  for e, ok in zip(episodes, true, strict=True) if not ok][:200],
    }  # fmt: skip


def _index(labels: Iterable[Label]) -> tuple[dict[str, list[Label]], dict[str, list[Label]]]:
    by_meter: dict[str, list[Label]] = defaultdict(list)
    by_feeder: dict[str, list[Label]] = defaultdict(list)
    for label in labels:
        for meter in label.meters:
            by_meter[meter].append(label)
        if label.is_feeder and label.feeder_id:
            by_feeder[label.feeder_id].append(label)
    return by_meter, by_feeder


def _is_true(episode: Episode, by_meter: dict[str, list[Label]], by_feeder: dict[str, list[Label]]) -> bool:
    near = (
        by_feeder.get(episode.feeder_id or "", []) if episode.meter_id is None else by_meter.get(episode.meter_id, [])
    )
    return any(episode.start <= label.end + GRACE and episode.end >= label.start for label in near)


def _is_found(label: Label, episodes: Sequence[Episode], *, strict: bool) -> bool:
    def concerns(episode: Episode) -> bool:
        if label.is_feeder and strict:
            return episode.meter_id is None and episode.feeder_id == label.feeder_id
        return episode.meter_id in label.meters

    return any(e.start <= label.until and e.end >= label.start and concerns(e) for e in episodes)


def _delays(labels: Sequence[Label], alarms: pd.DataFrame) -> dict[int, float]:
    """Seconds from the start of a label to the first alarm of its meters or feeder known in time."""
    by_meter = {name: rows["known_at"] for name, rows in alarms.groupby("meter_id")}
    by_feeder = {name: rows["known_at"] for name, rows in alarms.groupby("feeder_id")}
    found = {}
    for label in labels:
        known = by_feeder.get(label.feeder_id or "") if label.is_feeder else by_meter.get(next(iter(label.meters)))
        if known is not None:
            after = known[(known >= label.start) & (known <= label.until + GRACE)]
            if len(after):
                found[id(label)] = (after.min() - label.start).total_seconds()
    return found


def _figures(
    labels: Sequence[Label], hits: dict[int, bool], true: Sequence[bool], delays: dict[int, float]
) -> dict[str, Any]:
    found = sum(hits[id(label)] for label in labels)
    recall = found / len(labels) if labels else None
    precision = sum(true) / len(true) if true else None
    f1 = 2 * recall * precision / (recall + precision) if recall and precision else (0.0 if labels else None)
    seconds = pd.Series([delays[id(label)] for label in labels if id(label) in delays and hits[id(label)]], dtype=float)
    return {
        "labels": len(labels),
        "found": found,
        "recall": recall,
        "episodes": len(true),
        "precision": precision,
        "f1": f1,
        "delay_p50_s": None if seconds.empty else float(seconds.quantile(0.5)),
        "delay_p95_s": None if seconds.empty else float(seconds.quantile(0.95)),
    }


def _false_alarms(episodes: Sequence[Episode], true: Sequence[bool], meter_days: float) -> dict[str, float]:
    counted: dict[str, int] = dict.fromkeys(("WARNING", "ERROR", "CRITICAL"), 0)
    for episode, ok in zip(episodes, true, strict=True):
        counted[episode.severity] += 0 if ok else episode.count
    return {name: count / meter_days for name, count in counted.items()}
