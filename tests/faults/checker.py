"""The checker: topics and tables read side by side, and every record's fate told by a model in plain Python.

Nothing of the pipeline judges here: what is valid says `tests.fuzz.validator.read` (Python's json and the
contract), windows are those of `tests.window_model`. Batch boundaries and aligned times are taken from `audit`, since
lateness is defined by them; an aligned time that the definition does not allow is a problem of its own.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from generator.malformed import expected_reason
from pipelines.settings import Settings
from pipelines.topics import client_options, topic_offsets
from tests.faults.traffic import MALFORMED, SPIKE, Sent
from tests.fuzz.validator import read
from tests.window_model import Reading, model_windows

SHOWN = 3
Place = tuple[int, int]
"""Partition and offset."""


class Fate(NamedTuple):
    """What the tables say of a record."""

    reason: str | None
    meter_id: str | None
    event_ms: int | None
    voltage_v: float | None
    is_late: bool | None
    is_resent: bool | None


class ArchiveBatch(NamedTuple):
    """What `audit` says of a batch: first and last offset of each partition, and the aligned time after it."""

    ranges: dict[int, tuple[int, int]]
    aligned_ms: int | None
    """None of a skipped range, and of a batch of the first edition, where the largest event time took its place."""


@dataclass
class TopicLog:
    """All records of a topic but those of aborted transactions; `extend` reads what has come since."""

    settings: Settings
    topic: str
    records: dict[Place, ConsumerRecord] = field(default_factory=dict)
    _next: dict[int, int] = field(default_factory=dict)

    def extend(self) -> dict[Place, ConsumerRecord]:
        """Read up to the broker's end; returns all records so far."""
        offsets = topic_offsets(self.settings.kafka, self.topic)
        behind = {p: end for p, (_, end) in offsets.items() if self._next.get(p, 0) < end}
        if not behind:
            return self.records
        consumer = KafkaConsumer(
            **client_options(self.settings.kafka), enable_auto_commit=False, fetch_max_wait_ms=50,
            isolation_level="read_committed",
        )  # fmt: skip
        try:
            parts = {p: TopicPartition(self.topic, p) for p in behind}
            consumer.assign(list(parts.values()))
            for p, part in parts.items():
                consumer.seek(part, max(self._next.get(p, 0), offsets[p][0]))
            while any(consumer.position(parts[p]) < end for p, end in behind.items()):
                for found in consumer.poll(timeout_ms=500, max_records=5000).values():
                    self.records.update({(r.partition, r.offset): r for r in found})
            self._next.update(behind)
        finally:
            consumer.close()
        return self.records


@dataclass
class Findings:
    """Figures of a check, and one sentence for each thing that is wrong."""

    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def none_of(self, name: str, wrong: Iterable[Any]) -> None:
        """Count what is wrong under a name; any makes a problem."""
        found = list(wrong)
        self.figures[name] = len(found)
        if found:
            self.problems.append(f"{name}: {len(found)}, such as {found[:SHOWN]}")


def check_records(
    topic: dict[Place, ConsumerRecord], fates: list[tuple[Place, Fate]], sent: Iterable[Sent], settings: Settings
) -> Findings:
    """Every record of the topic stands in the tables exactly once, with the outcome the model gives it."""
    found = Findings()
    limits = settings.input
    stored = dict(fates)
    twice = [place for place, count in Counter(place for place, _ in fates).items() if count > 1]
    kinds = {(one.partition, one.offset): one for one in sent}
    found.figures |= {"acked": len(kinds), "in_topic": len(topic), "stored": len(fates)}
    found.none_of("acked_not_in_topic", sorted(place for place, s in kinds.items() if not _is_there(topic, place, s)))
    found.none_of("lost", sorted(set(topic) - set(stored)))
    found.none_of("duplicated", sorted(twice))
    found.none_of("extra", sorted(set(stored) - set(topic)))
    wrong = []
    for place in sorted(set(topic) & set(stored)):
        record, fate = topic[place], stored[place]
        document = read(record.value, max_skew_s=limits.max_skew, max_age_s=limits.max_age, broker_ms=record.timestamp)
        one = kinds.get(place)
        wanted = expected_reason(one.variant) if one and one.kind == MALFORMED else None
        if (document is None) == (fate.reason is None) or (wanted and fate.reason != wanted):
            wrong.append((place, fate.reason, wanted))
        elif document and (document["meterId"], document["timestamp"], document["voltage"]) != fate[1:4]:
            wrong.append((place, fate, document))
    found.none_of("misjudged", wrong)
    return found


def _is_there(topic: dict[Place, ConsumerRecord], place: Place, sent: Sent) -> bool:
    return place in topic and topic[place].value == sent.value


def check_flags(
    fates: list[tuple[Place, Fate]], batches: list[ArchiveBatch], *, watermark_s: float, horizon_s: float
) -> Findings:
    """Late and re-sent are as defined: late by the aligned time after the batch before, re-sent by lower offsets.

    Aligned time never goes back, and is the least frontier of the partitions of a batch or the largest of all.
    """
    found = Findings()
    accepted = {place: fate for place, fate in fates if fate.reason is None}
    by_batch = _by_batch(accepted, [batch.ranges for batch in batches])
    wrong_late, wrong_resent, wrong_aligned, late, resent = [], [], [], 0, 0
    aligned: int | None = None
    frontiers: dict[int, int] = {}
    seen: set[tuple[str | None, int]] = set()
    for members, batch in zip(by_batch, batches, strict=True):
        limit = None if aligned is None else aligned - watermark_s * 1000
        for place in sorted(members):
            fate = accepted[place]
            key = fate.meter_id, int(fate.event_ms or 0)
            is_late = limit is not None and key[1] < limit
            late += is_late
            if is_late != fate.is_late:
                wrong_late.append((place, fate))
            in_reach = aligned is None or key[1] >= aligned - horizon_s * 1000
            resent += bool(fate.is_resent)
            if in_reach and (key in seen) != fate.is_resent:
                wrong_resent.append((place, fate))
            seen.add(key)
            frontiers[place[0]] = max(frontiers.get(place[0], key[1]), key[1])
        allowed = _allowed_aligned(aligned, frontiers, batch.ranges)
        if batch.aligned_ms is not None:
            if batch.aligned_ms not in allowed:
                wrong_aligned.append((batch, allowed))
            aligned = batch.aligned_ms
        elif members:
            aligned = max(frontiers.values())
    found.figures |= {"late": late, "resent": resent, "batches": len(by_batch)}
    found.none_of("aligned_time_wrong", wrong_aligned)
    found.none_of("late_flag_wrong", wrong_late)
    found.none_of("resent_flag_wrong", wrong_resent)
    return found


def _allowed_aligned(
    before: int | None, frontiers: dict[int, int], ranges: dict[int, tuple[int, int]]
) -> set[int | None]:
    """Aligned times that a batch may have, whether it was cut or not. Nothing but gaps in a partition: it stays."""
    behind = [frontiers[p] for p in ranges if p in frontiers]
    reached = {max(frontiers.values(), default=None), min(behind, default=None)}
    if any(p not in frontiers for p in ranges):
        reached.add(before)
    return {max((ms for ms in (before, now) if ms is not None), default=None) for now in reached}


def _by_batch(accepted: dict[Place, Fate], batches: list[dict[int, tuple[int, int]]]) -> list[list[Place]]:
    owner: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for number, ranges in enumerate(batches):
        for partition, (first, last) in ranges.items():
            owner[partition].append((first, last, number))
    members: list[list[Place]] = [[] for _ in batches]
    for partition, ranges_of in owner.items():
        ranges_of.sort()
        mine = sorted(place for place in accepted if place[0] == partition)
        at = 0
        for place in mine:
            while at < len(ranges_of) and ranges_of[at][1] < place[1]:
                at += 1
            if at < len(ranges_of) and ranges_of[at][0] <= place[1]:
                members[ranges_of[at][2]].append(place)
    return members


def check_windows(
    fates: list[tuple[Place, Fate]], rows: dict[tuple[str, int], dict[str, Any]], settings: Settings, *, up_to_ms: int
) -> Findings:
    """Sums of every closed window equal those of the plain model over the readings that count.

    `rows`: n, mean_v, min_v and max_v of meter_windows by (meter, end in epoch ms), without silent meters.
    """
    found = Findings()
    detection = settings.detection
    highest_v = detection.nominal_voltage_v * 1.1
    countable = [
        Reading(str(f.meter_id), int(f.event_ms or 0), _volts(f), is_in_band=_volts(f) < highest_v)
        for _, f in fates
        if f.reason is None and not f.is_late and not f.is_resent
    ]  # fmt: skip
    model = model_windows(countable, window_s=int(detection.window_s), slide_s=int(detection.slide_s))
    expected = {key: row for key, row in model.items() if key[1] <= up_to_ms}
    found.figures["windows"] = len(expected)
    found.none_of("windows_missing", sorted(set(expected) - set(rows)))
    found.none_of("windows_extra", sorted(set(rows) - set(expected)))
    both = sorted(set(expected) & set(rows))
    found.none_of("windows_wrong", [(key, rows[key]) for key in both if not _same(rows[key], expected[key])])
    return found


def _volts(fate: Fate) -> float:
    return float(fate.voltage_v or 0)


def _same(row: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(
        row[name] == wanted[name] if not isinstance(wanted[name], float) else abs(row[name] - wanted[name]) < 1e-6
        for name in row
    )


def _is_early_flag(event: dict[str, Any]) -> bool:
    return bool(event["anomalyType"] == "voltage_deviation" and event["stage"] == "reading")


def lasting(event: dict[str, Any]) -> dict[str, Any]:
    """What of an anomaly is the same when it is sent again: not the clock, the version of the rules, which an upgrade
    raises, or the baseline of a reading's. An item that is null, or that an earlier version did not send, is 0."""
    passing = {"detectedAt", "ruleVersion"} | ({"baseline"} if event["stage"] == "reading" else set())
    item = {"sourceItem": event.get("sourceItem") or 0}
    return {name: value for name, value in event.items() if name not in passing} | item


def check_anomalies(sent: dict[Place, ConsumerRecord], rows: list[str], spikes: Iterable[Sent], topic: str) -> Findings:
    """Every spike has its anomaly; repeats in Kafka are the same event; the table has each id once."""
    found = Findings()
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in sent.values():
        event = json.loads(record.value)
        events[event["anomalyId"]].append(lasting(event))
    sources = {
        (e["source"]["partition"], e["source"]["offset"])
        for same in events.values()
        for e in same[:1]
        if e["anomalyType"] == "voltage_spike" and e["source"] and e["source"]["topic"] == topic
    }
    found.figures |= {
        "anomalies_sent": len(sent), "anomalies": len(events), "repeated_in_kafka": len(sent) - len(events),
        "anomaly_rows": len(rows),
    }  # fmt: skip
    due = {(s.partition, s.offset) for s in spikes if s.kind == SPIKE}
    found.figures["spikes"] = len(due)
    found.none_of("spikes_without_anomaly", sorted(due - sources))
    # Two readings of one meter and moment have one id; a repeat is of the same reading.
    differing = [
        i for i, same in events.items() if any(e != f for e in same for f in same if e["source"] == f["source"])
    ]
    # Of the early flag alone a replay may say something else: it compares with the newest baseline.
    found.none_of("repeats_that_differ", [i for i in differing if not _is_early_flag(events[i][0])])
    found.none_of("anomalies_not_in_table", sorted(set(events) - set(rows)))
    found.none_of("anomaly_rows_twice", [i for i, count in Counter(rows).items() if count > 1])
    found.none_of("anomaly_rows_unknown", sorted(set(rows) - set(events)))
    return found


def check_dead_letters(letters: Iterable[ConsumerRecord], rejected: set[Place]) -> Findings:
    """Every rejected record has its dead letter; repeats are allowed, strangers are not."""
    found = Findings()
    headers = [dict(record.headers) for record in letters]
    origins = {(int(one["origin-partition"]), int(one["origin-offset"])) for one in headers}
    found.figures |= {"rejected": len(rejected), "dead_letters": len(headers)}
    found.none_of("rejected_without_dead_letter", sorted(rejected - origins))
    found.none_of("dead_letters_of_accepted", sorted(origins - rejected))
    return found
