"""Readings of the archive by meter and event time: those that findings of windows name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import polars as pl

from pipelines.lake.frames import empty
from pipelines.settings import Settings
from pipelines.small_tables import moment, scan_rows
from pipelines.tables import READINGS
from pipelines.windows.judge import Found, named_by

COLUMNS = (
    "meter_id", "event_ts", "voltage_v", "current_a", "temperature_c", "status",
    "kafka_topic", "kafka_partition", "kafka_offset", "kafka_ts", "kafka_item",
)  # fmt: skip
COUNTABLE = "NOT is_late AND NOT is_resent"
_TIMES = 100
"""Event times of one predicate."""


def latest_readings(found: Sequence[Found], settings: Settings) -> pl.DataFrame:
    """COLUMNS of the countable readings of (meter_id, last_event_ms) of the findings."""
    return readings_at(named_by(found), settings, columns=COLUMNS, where=COUNTABLE)


def readings_at(
    wanted: pl.DataFrame, settings: Settings, *, columns: Sequence[str] | None = None, where: str = "TRUE"
) -> pl.DataFrame:
    """Rows of the table readings of the meters and event times in `wanted` (meter_id, event_ms).

    Asked for by the exact times, so that files without one of them are not read.
    """
    names = list(columns or READINGS.column_names)
    times = wanted["event_ms"].unique().sort().to_list()
    pieces = [empty(READINGS).select(names)]
    for place in range(0, len(times), _TIMES):
        at = f"{where} AND {_at(times[place : place + _TIMES])}"
        for rows in scan_rows(settings, READINGS, columns=names, where=at):
            timed = pl.DataFrame(rows).with_columns(event_ms=pl.col("event_ts").dt.epoch("ms"))
            pieces.append(timed.join(wanted, on=["meter_id", "event_ms"], how="semi").drop("event_ms"))
    return pl.concat(pieces)


def _at(times_ms: Sequence[int]) -> str:
    moments = [datetime.fromtimestamp(ms / 1000, UTC) for ms in times_ms]
    days = ", ".join(sorted({f"'{at.date()}'" for at in moments}))
    return f"event_date IN ({days}) AND event_ts IN ({', '.join(map(moment, moments))})"
