"""What the archive knows of its earlier batches: enough to say whether a reading is late or was sent before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow.compute as pc

from pipelines.readings.alignment import AUDIT_COLUMNS, Alignment
from pipelines.readings.held import HeldFile
from pipelines.readings.plan import Plan
from pipelines.readings.recent_keys import Longs, RecentKeys, reading_keys, whole_minute
from pipelines.settings import Settings
from pipelines.small_tables import moment, read_rows, scan_rows
from pipelines.tables import AUDIT, READINGS

_MOST_KEYS = 50_000_000
"""More are not remembered, 400 MB: where partitions are hours apart the oldest minutes go first."""


@dataclass
class Past:
    """Frontiers and aligned time, keys of the readings within the horizon before it, and the held-back panes."""

    alignment: Alignment
    keys: RecentKeys
    held: Sequence[HeldFile]
    horizon_ms: int

    def take_in(self, plan: Plan, after: Alignment, keys: Longs, event_ms: Longs) -> None:
        """Remember a batch once it is written."""
        self.alignment, self.held = after, plan.held
        self.keys.add(keys, event_ms)
        if after.aligned_ms is not None:
            self.keys.forget_before(after.aligned_ms - self.horizon_ms)
        self.keys.forget_beyond(_MOST_KEYS)


def recall(settings: Settings, held: Sequence[HeldFile]) -> Past:
    """The past of a batch that nothing is written of yet, from the tables; `held` are the panes held back before it."""
    audit = read_rows(settings, AUDIT, columns=AUDIT_COLUMNS).to_pylist()
    horizon_ms = int(settings.resent_horizon_s * 1000)
    past = Past(Alignment.restored(audit), RecentKeys(), held, horizon_ms)
    if past.alignment.aligned_ms is not None:
        _remember_readings(settings, past.keys, whole_minute(past.alignment.aligned_ms - horizon_ms))
        past.keys.forget_beyond(_MOST_KEYS)
    return past


def _remember_readings(settings: Settings, keys: RecentKeys, since_ms: int) -> None:
    since = datetime.fromtimestamp(since_ms / 1000, UTC)
    where = f"event_date >= '{since.date()}' AND event_ts >= {moment(since)}"
    found = [
        (reading_keys(piece["meter_id"].to_pylist(), event_ms), event_ms)
        for piece in scan_rows(settings, READINGS, columns=["meter_id", "event_ts"], where=where)
        if len(event_ms := pc.divide(piece["event_ts"].cast("int64"), 1000).to_numpy())
    ]
    if found:
        keys.add(*(np.concatenate(column) for column in zip(*found, strict=True)))
