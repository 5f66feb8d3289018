"""The readings that findings of windows name: each the latest one of its meter in the window."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from pipelines.lake.frames import empty
from pipelines.settings import Settings
from pipelines.small_tables import moment, scan_rows
from pipelines.tables import READINGS
from pipelines.windows.judge import Found

COLUMNS = (
    "meter_id", "event_ts", "voltage_v", "current_a", "temperature_c", "status",
    "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ts", "kafka_item",
)  # fmt: skip
_TIMES = 100
"""Event times of one predicate."""


def latest_readings(found: Sequence[Found], settings: Settings) -> pl.DataFrame:
    """COLUMNS of the countable readings of (meter_id, last_event_ms) of the findings, from the table readings."""
    wanted = pl.DataFrame(
        {"meter_id": [one.meter_id for one in found], "event_ms": [one.last_event_ms for one in found]},
        schema={"meter_id": pl.String(), "event_ms": pl.Int64()},
    ).unique()
    times = wanted["event_ms"].unique().sort().to_list()
    pieces = [empty(READINGS).select(COLUMNS)]
    for place in range(0, len(times), _TIMES):
        for rows in scan_rows(settings, READINGS, columns=COLUMNS, where=_where(times[place : place + _TIMES])):
            timed = pl.DataFrame(rows).with_columns(event_ms=pl.col("event_ts").dt.epoch("ms"))
            pieces.append(timed.join(wanted, on=["meter_id", "event_ms"], how="semi").drop("event_ms"))
    return pl.concat(pieces)


def _where(times_ms: Sequence[int]) -> str:
    moments = [datetime.fromtimestamp(ms / 1000, UTC) for ms in times_ms]
    days = ", ".join(sorted({f"'{at.date()}'" for at in moments}))
    exact = ", ".join(moment(at) for at in moments)
    return f"NOT is_late AND NOT is_resent AND event_date IN ({days}) AND event_ts IN ({exact})"
