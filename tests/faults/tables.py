"""What the tables of a place say, in the words of the checker; and how long each kill held the archive up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.small_tables import read_rows
from pipelines.tables import READINGS
from tests.faults.checker import ArchiveBatch, Fate
from tests.faults.checker import Place as Offset
from tests.integration.support import Place


@dataclass(frozen=True)
class Kill:
    """Wall-clock time of a kill (s), and the next offset of every partition of the topic at it."""

    at: float
    ends: Mapping[int, int]


def fates(place: Place) -> list[tuple[Offset, Fate]]:
    """What the tables say of every record."""
    rows = place.ask(
        """SELECT kafka_partition, kafka_offset, NULL, meter_id, epoch_ms(event_ts), voltage_v, is_late, is_resent
        FROM readings UNION ALL
        SELECT kafka_partition, kafka_offset, reason, NULL, NULL, NULL, NULL, NULL FROM rejected"""
    )
    return [((row[0], row[1]), Fate(*row[2:])) for row in rows]


def batches(place: Place) -> list[ArchiveBatch]:
    """Every archive batch, in order."""
    found: dict[tuple[Any, ...], ArchiveBatch] = {}
    rows = place.ask(
        """SELECT generation, batch_id, kafka_partition, first_offset, last_offset, epoch_ms(aligned_ts) FROM audit
        ORDER BY min(max_kafka_ts) OVER (PARTITION BY generation), batch_id"""
    )
    for generation, number, partition, first, last, aligned_ms in rows:
        batch = found.setdefault((generation, number), ArchiveBatch({}, aligned_ms))
        if first <= last:
            batch.ranges[partition] = (first, last)
    return list(found.values())


def windows(place: Place) -> dict[tuple[str, int], dict[str, Any]]:
    """The sums of meter_windows that the model is compared with."""
    rows = place.ask("SELECT meter_id, epoch_ms(window_end), n, mean_v, min_v, max_v FROM meter_windows WHERE n > 0")
    names = ("n", "mean_v", "min_v", "max_v")
    found = {(row[0], row[1]): dict(zip(names, row[2:], strict=True)) for row in rows}
    assert len(found) == len(rows), f"{len(rows) - len(found)} windows stand twice in meter_windows"
    return found


def newest_closed(place: Place) -> int | None:
    """Epoch seconds of the latest window end that holds a reading and lies at or before the watermark."""
    detection = place.settings.detection
    rows = read_rows(place.settings, READINGS, columns=["event_ts", "is_late", "is_resent"]).to_pylist()
    counted = [row["event_ts"].timestamp() for row in rows if not (row["is_late"] or row["is_resent"])]
    if not counted:
        return None
    slide_s, limit = int(detection.slide_s), max(counted) - detection.watermark
    slides = {int(at) // slide_s for at in counted}
    ends = (slide + n for slide in slides for n in range(1, round(detection.window_s / slide_s) + 1))
    return max((end * slide_s for end in ends if end * slide_s <= limit), default=None)


def recoveries(place: Place, kills: Sequence[Kill]) -> list[tuple[float, float | None]]:
    """For each kill that the archive outlived: seconds to its first batch, and to what was sent at the kill.

    The latter is None when the next kill came before.

    By the times of the commits of `audit` in a folder; a kill with no batch before the next one is left out.
    """
    commits = _audit_commits(place)
    found = []
    for kill, following in zip(kills, [*kills[1:], None], strict=True):
        limit = following.at if following else float("inf")
        after = [(at, ends) for at, ends in commits if kill.at < at < limit]
        caught_up = [at for at, ends in after if all(ends.get(p, 0) >= end for p, end in kill.ends.items())]
        if after:
            found.append((after[0][0] - kill.at, caught_up[0] - kill.at if caught_up else None))
    return found


def _audit_commits(place: Place) -> list[tuple[float, dict[int, int]]]:
    """Time of every commit of `audit`, with the offsets that the archive had reached by then."""
    reached: dict[int, int] = {}
    batches: dict[tuple[str, int], dict[int, int]] = {}
    for *batch, partition, last in place.ask("SELECT generation, batch_id, kafka_partition, last_offset FROM audit"):
        batches.setdefault((batch[0], batch[1]), {})[partition] = last + 1
    found = []
    for file in sorted((place.folder / "lake" / "audit" / "_delta_log").glob("*.json")):
        for line in file.read_text(encoding="utf-8").splitlines():
            if txn := json.loads(line).get("txn"):
                reached = reached | batches.get((txn["appId"].split("/")[1], txn["version"]), {})
                found.append((file.stat().st_mtime, reached))
    return found
