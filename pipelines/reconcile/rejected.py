"""Rejected records as the table holds them, with what became of their replays.

A record may carry several readings. Each bad one has a row in `rejected`; the record's bytes are in the row of the
lowest of them. The record is what is shown, counted as replayed and sent again, as a whole.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pipelines.errors import SettingsError
from pipelines.settings import Settings
from pipelines.small_tables import moment, open_table, read_rows, scan_rows, table_is_there
from pipelines.tables import REJECTED, REPLAYS, Table

FRESH, REPLAYED, UNSURE, PARKED = "fresh", "replayed", "unsure", "parked"
STATES = (FRESH, REPLAYED, UNSURE, PARKED)
"""Not replayed yet; replayed; claimed, and the process died before it knew; the same bytes were replayed before."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""
BadItem = tuple[int, str]
"""Place of a bad reading in its record, and its reason."""

_WITHOUT_BYTES = "kafka_item > 0 AND value IS NULL"
_WITH_BYTES = "(kafka_item IS NULL OR kafka_item = 0 OR value IS NOT NULL)"
"""Rows of `rejected` whose record's bytes are in another row, and the others: one per record."""


@dataclass(frozen=True)
class Selection:
    """Which rejected records; all of them without any condition."""

    reasons: Sequence[str] = ()
    since: datetime | None = None
    """Broker time, inclusive."""
    until: datetime | None = None
    """Broker time, exclusive."""
    partition: int | None = None
    offset: int | None = None

    def has(self, reasons: Collection[str]) -> bool:
        """Whether a record with these reasons is selected."""
        return not self.reasons or not set(self.reasons).isdisjoint(reasons)

    def where(self, *more: str, with_reasons: bool = True) -> str | None:
        """SQL predicate over the table rejected, and further ones; reasons are names of the contract."""
        parts = list(more)
        if self.reasons and with_reasons:
            names = ", ".join(f"'{reason}'" for reason in self.reasons)
            parts.append(f"reason IN ({names})")
        if self.since:
            parts.append(f"kafka_date >= '{self.since.astimezone(UTC).date()}' AND kafka_ts >= {moment(self.since)}")
        if self.until:
            parts.append(f"kafka_date <= '{self.until.astimezone(UTC).date()}' AND kafka_ts < {moment(self.until)}")
        if self.partition is not None:
            parts.append(f"kafka_partition = {self.partition}")
        if self.offset is not None:
            parts.append(f"kafka_offset = {self.offset}")
        return " AND ".join(parts) or None


@dataclass(frozen=True)
class Rejected:
    """One rejected record, or one with rejected items, with its state."""

    reason: str
    """That of its lowest bad item."""
    rule_version: str
    key: bytes | None
    value: bytes | None
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    kafka_ts: datetime
    digest: str
    state: str
    bad_items: tuple[BadItem, ...] = ()
    """All its bad items, in order; one with number 0 for a record that could not be decoded or is a single reading."""
    is_partly_accepted: bool = False
    """Whether other items of the record are known to be in `readings`."""

    @property
    def items(self) -> tuple[int, ...]:
        """Numbers of the bad items."""
        return tuple(item for item, _ in self.bad_items)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason once, in the order of the items."""
        return tuple(dict.fromkeys(reason for _, reason in self.bad_items))

    @property
    def place(self) -> Place:
        """Its coordinates."""
        return self.kafka_topic, self.kafka_partition, self.kafka_offset


@dataclass
class Done:
    """What was replayed before."""

    steps: dict[Place, str] = field(default_factory=dict)
    digests: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, settings: Settings) -> Done:
        """From the table replays."""
        done = cls()
        if not table_is_there(settings, REPLAYS):
            return done
        rows = [((row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]), row)
                for row in read_rows(settings, REPLAYS).to_pylist()]  # fmt: skip
        released = {(place, row["replay_id"]) for place, row in rows if row["step"] == "released"}
        for place, row in rows:
            if (place, row["replay_id"]) in released:
                continue
            if done.steps.get(place) != "sent":
                done.steps[place] = row["step"]
            done.digests.add(row["digest"])
        return done

    def state_of(self, place: Place, digest: str) -> str:
        """One of STATES.

        >>> done = Done({("t", 0, 1): "sent", ("t", 0, 2): "claimed"}, {"a", "b"})
        >>> [done.state_of(("t", 0, n), digest) for n, digest in ((1, "a"), (2, "b"), (3, "a"), (4, "c"))]
        ['replayed', 'unsure', 'parked', 'fresh']
        """
        step = self.steps.get(place)
        if step is not None:
            return REPLAYED if step == "sent" else UNSURE
        return PARKED if digest in self.digests else FRESH


def digest_of(key: bytes | None, value: bytes | None) -> str:
    """SHA-256 over key and value, with their lengths; a null differs from nothing.

    >>> len({digest_of(b"a", b"b"), digest_of(b"ab", b""), digest_of(None, b"ab"), digest_of(b"ab", None)})
    4
    """
    text = hashlib.sha256()
    for part in (key, value):
        text.update(str(-1 if part is None else len(part)).encode() + b":")
        text.update(part or b"")
    return text.hexdigest()


def rejected_records(settings: Settings, selection: Selection) -> Iterator[Rejected]:
    """The selected records in the order of the table's files, a few thousand in memory at a time.

    Records with the same bytes: all but the first of them count as parked. Raises SettingsError without the table.
    """
    if not table_is_there(settings, REJECTED):
        raise SettingsError(f"lake.root = {settings.lake.root} has no table rejected: start `gridwatch run` once")
    done, seen = Done.read(settings), set[str]()
    further = _further_items(settings, selection)
    # A record is selected by the reason of any of its items, and its bytes are in the row of the first.
    is_told_by_row = not any(selection.has([reason]) for items in further.values() for _, reason in items)
    where = selection.where(*_unless_older(settings, _WITH_BYTES), with_reasons=is_told_by_row)
    names = [name for name in REJECTED.column_names if name != "kafka_date"]
    for piece in scan_rows(settings, REJECTED, columns=names, where=where):
        for row in piece.to_pylist():
            item: BadItem = (row.pop("kafka_item") or 0, row["reason"])
            place = row["kafka_topic"], row["kafka_partition"], row["kafka_offset"]
            items = (item, *further.get(place, ()))
            if not selection.has([reason for _, reason in items]):
                continue
            digest = digest_of(row["key"], row["value"])
            state = done.state_of(place, digest)
            if state == FRESH and digest in seen:
                state = PARKED
            seen.add(digest)
            yield Rejected(**row, digest=digest, state=state, bad_items=items)


def _further_items(settings: Settings, selection: Selection) -> dict[Place, list[BadItem]]:
    """The bad items whose record's bytes are in another row, by record; an entry each, held in memory."""
    found: dict[Place, list[BadItem]] = defaultdict(list)
    if not knows_items(settings, REJECTED):
        return found
    names = ["kafka_topic", "kafka_partition", "kafka_offset", "kafka_item", "reason"]
    where = selection.where(_WITHOUT_BYTES, with_reasons=False)
    for piece in scan_rows(settings, REJECTED, columns=names, where=where):
        for topic, partition, offset, item, reason in zip(*piece.to_pydict().values(), strict=True):
            found[topic, partition, offset].append((item, reason))
    for items in found.values():
        items.sort()
    return found


def _unless_older(settings: Settings, predicate: str) -> list[str]:
    """A predicate over items; none for a table of before, which has no column for them."""
    return [predicate] if knows_items(settings, REJECTED) else []


def knows_items(settings: Settings, table: Table) -> bool:
    """Whether a stored table numbers the items of a record; one of before does not."""
    return any(field.name == "kafka_item" for field in open_table(settings, table).schema().fields)


def count_by_reason(settings: Settings, selection: Selection) -> dict[str, dict[str, int]]:
    """Rejected readings by reason and state, and under `bytes` the size of their records' values, each once."""
    counts: dict[str, dict[str, int]] = {}
    for record in rejected_records(settings, selection):
        for _, reason in record.bad_items:
            if selection.has([reason]):
                counts.setdefault(reason, dict.fromkeys((*STATES, "bytes"), 0))[record.state] += 1
        if record.reason in counts:
            counts[record.reason]["bytes"] += len(record.value or b"")
    return dict(sorted(counts.items()))
