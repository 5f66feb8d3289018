"""What happens to records between meter and broker: late, repeated, out of order, broken."""

from __future__ import annotations

from itertools import repeat
from typing import NamedTuple

import numpy as np

from generator.draws import Floats, Ints, quarters, stream_key, words
from generator.encode import encode_readings
from generator.faults import Block
from generator.malformed import VARIANTS, make_malformed
from generator.plan import RunPlan
from generator.scenario import Scenario

NORMAL, LATE, DUPLICATE, OUT_OF_ORDER, MALFORMED = range(5)
KIND_NAMES = ("normal", "late", "duplicate", "out_of_order", "malformed")
DUPLICATE_DELAY_MS = 60_000


class Record(NamedTuple):
    """One record to send when the data's clock shows `due_ms`; sorts by that, then by reading.

    event_ms is the reading's event time (for a malformed record its due time), kind one of the numbers
    above, variant the malformed kind, value the bytes (None: tombstone).
    """

    due_ms: int
    event_ms: int
    meter: int
    kind: int
    variant: str
    value: bytes | None


class Wire:
    """Turns blocks of readings into records in sending order.

    State: the records held back and the number of malformed records so far. Odd ones come only from
    readings without a fault, from the data (not the closing part), and are due before the closing end.
    A reading is at most one of late, duplicate, out of order. With `encode` false, good records carry
    empty bytes (for counting only).
    """

    def __init__(self, scenario: Scenario, *, encode: bool = True, odd: bool = True) -> None:
        self._plan = scenario.plan
        self._meter_id = scenario.network.meter_id
        self._encode = encode
        self._odd = odd
        self._held: list[Record] = []
        self._malformed = 0

    def records(self, block: Block, until_ms: int) -> list[Record]:
        """Return what is due before `until_ms`, given the readings up to it that were not given yet."""
        values = encode_readings(block, self._meter_id) if self._encode else [b""] * len(block)
        times, meters = block.ts.tolist(), block.meter.tolist()
        ready = list(map(Record, times, times, meters, repeat(NORMAL), repeat(""), values))
        if self._odd:
            self._hold_back(block, ready)
            self._held += self._broken(block, values)
        due = [record for record in self._held if record.due_ms < until_ms]
        self._held = [record for record in self._held if record.due_ms >= until_ms]
        ready += due
        ready.sort(key=_order)
        return ready

    def _hold_back(self, block: Block, ready: list[Record]) -> None:
        """Move late and out-of-order records of `ready` to the held ones, and hold a copy of the repeated."""
        kind, due = mark(self._plan, block)
        moved = []
        for row in np.flatnonzero(kind).tolist():
            record = ready[row]
            self._held.append(record._replace(due_ms=int(due[row]), kind=int(kind[row])))
            if kind[row] != DUPLICATE:
                moved.append(row)
        for row in reversed(moved):
            del ready[row]

    def _broken(self, block: Block, values: list[bytes]) -> list[Record]:
        plan = self._plan
        draw, delay, _, _ = quarters(words(stream_key(plan.seed, "malformed"), block.meter, block.poll))
        due = block.ts + (delay * plan.cadence_ms).astype(np.int64)
        chosen = (draw < plan.malformed_share) & (block.ts < plan.data_end_ms) & (due < plan.closing_end_ms)
        rows = np.flatnonzero(chosen).tolist()
        return [self._break(int(due[row]), int(block.meter[row]), values[row]) for row in rows]

    def _break(self, due_ms: int, meter: int, value: bytes) -> Record:
        variant = VARIANTS[self._malformed % len(VARIANTS)]
        self._malformed += 1
        made = make_malformed(variant, value) if self._encode else None
        return Record(due_ms, due_ms, meter, MALFORMED, variant, made)


def mark(plan: RunPlan, block: Block) -> tuple[Ints, Ints]:
    """Return (kind, due time in epoch ms) of every row: how its reading travels, drawn by meter and poll."""
    bits = words(stream_key(plan.seed, "transport"), block.meter, block.poll)
    draw, delay, _, _ = quarters(bits)
    bounds = np.cumsum([plan.late_share, plan.duplicate_share, plan.out_of_order_share])
    kind = np.array([LATE, DUPLICATE, OUT_OF_ORDER, NORMAL])[np.searchsorted(bounds, draw, side="right")]
    due = block.ts + _delays_ms(plan, kind, delay)
    impossible = block.faulty | (block.ts >= plan.data_end_ms) | (due >= plan.closing_end_ms)
    kind[impossible], due[impossible] = NORMAL, block.ts[impossible]
    return kind, due


def _delays_ms(plan: RunPlan, kind: Ints, draw: Floats) -> Ints:
    """Late: late_by to 1.2 x that. Duplicate: up to 60 s. Out of order: 0.1 to 0.5 watermarks."""
    base = np.array([0.0, plan.late_by_s * 1000, 0.0, 0.1 * plan.watermark_s * 1000])
    spread = np.array([0.0, 0.2 * plan.late_by_s * 1000, DUPLICATE_DELAY_MS, 0.4 * plan.watermark_s * 1000])
    return (base[kind] + spread[kind] * draw).astype(np.int64)


def _order(record: Record) -> tuple[int, int, int, int]:
    return record[:4]
