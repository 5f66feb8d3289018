"""Figures of the archive batches of a day: offsets without a hole, and the same counts in audit and tables.

A batch is of the day on which its largest event time lies. Of each partition all batches from the first to the last of
the day are judged, with those in between in which nothing was accepted.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd
from duckdb import DuckDBPyConnection

from pipelines.quality.day import Day, Say

_ROWS = 1_000_000
_GAPS = 500
"""Maximum number of holes in audit that are searched for readings."""
Counts = npt.NDArray[np.uint8 | np.uint32]
"""Rows by offset."""
Doubled = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]
_TABLES = ("s_readings", "s_rejected")
_IN_PLACE = "WHERE kafka_topic = $topic AND kafka_partition = $p AND kafka_offset BETWEEN $low AND $high"


def take_batches(lake: DuckDBPyConnection, day: Day, topic: str) -> pd.DataFrame:
    """Rows of audit of the day with the gap to the batch before; must be called before the tables are read.

    The archive writes readings, then audit: what audit counts is then there.
    """
    return lake.execute(
        f"""WITH a AS (
            SELECT kafka_partition, batch_id, first_offset, last_offset, records_in, accepted, rejected, late,
                coalesce(gaps, 0) AS gaps, skipped_because IS NOT NULL AS is_given_up,
                coalesce(list_sum(map_values(rejected_by_reason)), 0)::BIGINT AS by_reason,
                max(max_event_ts) OVER (PARTITION BY generation, batch_id)::DATE = DATE '{day.date}' AS is_of_day,
                max(last_offset) OVER (PARTITION BY kafka_partition ORDER BY first_offset, last_offset
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
            FROM s_audit WHERE kafka_topic = $topic
        ), edges AS (
            SELECT kafka_partition, min(first_offset) AS low, max(last_offset) AS high FROM a
            WHERE is_of_day AND NOT is_given_up GROUP BY 1
        )
        SELECT a.kafka_partition, batch_id, first_offset, last_offset, records_in, accepted, rejected, late,
            is_given_up, greatest(first_offset - before - 1, 0) AS gap,
            greatest(before + 1 - first_offset, 0) AS overlap,
            if(is_given_up, 0, abs(records_in - (last_offset - first_offset + 1 - gaps))) AS span_off,
            greatest(records_in - accepted - rejected, 0) AS parts_off, abs(rejected - by_reason) AS reasons_off,
            if(is_given_up, last_offset - first_offset + 1, 0) AS given_up
        FROM a JOIN edges e ON e.kafka_partition = a.kafka_partition
        WHERE first_offset >= e.low AND last_offset <= e.high ORDER BY 1, 3, 4""",
        {"topic": topic},
    ).df()


def count_rows(lake: DuckDBPyConnection, batches: pd.DataFrame, topic: str, say: Say) -> pd.DataFrame:
    """The batches with what the tables hold of each: readings_off, rejected_off, doubled.

    Needs two bytes per offset of one partition; eight when records carry several readings.
    """
    parts = []
    for partition, rows in batches.groupby("kafka_partition", sort=True):
        low, high = int(rows["first_offset"].min()), int(rows["last_offset"].max())
        place = {"topic": topic, "p": int(str(partition)), "low": low, "high": high}
        most = max(_highest_item(lake, table, place) for table in _TABLES)
        kind = np.uint32 if most else np.uint8
        accepted, rejected = (_found(lake, table, place, kind) for table in _TABLES)
        doubled = _doubled_items(lake, place) if most else _doubled(accepted, rejected)
        parts.append(rows.assign(**_compare(rows, accepted, rejected, doubled, low)))
        say(f"audit: partition {partition}, {len(rows)} batches compared with the tables")
    return pd.concat(parts) if parts else batches.assign(readings_off=0, rejected_off=0, doubled=0)


def of_day(lake: DuckDBPyConnection, batches: pd.DataFrame, day: Day, topic: str) -> pd.DataFrame:
    """One row: the share of rejected records, and readings that no row of audit covers.

    Readings behind the last audited offset of their partition are on their way, not unaccounted.
    """
    kept = batches[~batches["is_given_up"].astype(bool)]
    records = int(kept["records_in"].sum())
    share = float(kept["rejected"].sum()) / records if records else None
    outside = " OR ".join(_outside(lake, topic)) or "true"
    (unaccounted,) = lake.execute(
        f"SELECT count(*) FILTER ({outside}) FROM d_readings WHERE kafka_topic = $topic", {"topic": topic}
    ).fetchall()[0]
    return pd.DataFrame(
        {"day": [day.date], "records_in": [records], "rejected_share": [share], "unaccounted": [unaccounted]}
    )


def _outside(lake: DuckDBPyConnection, topic: str) -> Iterator[str]:
    """Conditions for offsets that audit does not cover: before its first, in a gap, of an unknown partition."""
    ranges = lake.execute(
        """SELECT kafka_partition, first_offset, max(last_offset) OVER (PARTITION BY kafka_partition
            ORDER BY first_offset, last_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
        FROM s_audit WHERE kafka_topic = $topic
        QUALIFY first_offset > coalesce(max(last_offset) OVER (PARTITION BY kafka_partition
            ORDER BY first_offset, last_offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) + 1, -1)
        ORDER BY 1, 2 LIMIT $most""",
        {"topic": topic, "most": _GAPS},
    ).fetchall()
    for partition, first, before in ranges:
        since = "" if before is None else f" AND kafka_offset > {before}"
        yield f"(kafka_partition = {partition} AND kafka_offset < {first}{since})"
    if ranges:
        yield f"kafka_partition NOT IN ({', '.join(str(p) for p in sorted({row[0] for row in ranges}))})"


def _highest_item(lake: DuckDBPyConnection, table: str, place: dict[str, object]) -> int:
    """Largest number of an item in a table; 0 when each record is one reading."""
    (most,) = lake.execute(f"SELECT max(kafka_item) FROM {table} {_IN_PLACE}", place).fetchall()[0]
    return int(most or 0)


def _found(lake: DuckDBPyConnection, table: str, place: dict[str, object], kind: type[np.uint8 | np.uint32]) -> Counts:
    """How often each offset from low to high is in a table."""
    low, high = int(str(place["low"])), int(str(place["high"]))
    counts: Counts = np.zeros(high - low + 1, kind)
    most = 100 if kind is np.uint8 else _ROWS
    reader = lake.execute(f"SELECT kafka_offset - $low AS o FROM {table} {_IN_PLACE}", place).to_arrow_reader(_ROWS)
    for rows in reader:
        offsets, times = np.unique(rows.column(0).to_numpy(), return_counts=True)
        counts[offsets] += np.minimum(times, most).astype(kind)
    return counts


def _doubled(accepted: Counts, rejected: Counts) -> Doubled:
    """Offsets (from low on) with rows beyond the first, and how many, where a record is one reading."""
    both = accepted.astype(np.uint16) + rejected
    at = np.flatnonzero(both > 1)
    return at, both[at].astype(np.int64) - 1


def _doubled_items(lake: DuckDBPyConnection, place: dict[str, object]) -> Doubled:
    """The same, with rows beyond the first of each item."""
    both = " UNION ALL ".join(
        f"SELECT kafka_offset - $low AS o, coalesce(kafka_item, 0) AS item FROM {table} {_IN_PLACE}"
        for table in _TABLES
    )
    found = lake.execute(
        f"""SELECT o, count(*) - count(DISTINCT item) AS more FROM ({both})
        GROUP BY o HAVING more > 0 ORDER BY o""",
        place,
    ).fetchall()
    return np.array([row[0] for row in found], np.int64), np.array([row[1] for row in found], np.int64)


def _compare(
    rows: pd.DataFrame, accepted: Counts, rejected: Counts, doubled: Doubled, low: int
) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {"readings_off": [], "rejected_off": [], "doubled": []}
    at, more = doubled
    for first, last, is_accepted, is_rejected in zip(
        rows["first_offset"], rows["last_offset"], rows["accepted"], rows["rejected"], strict=True
    ):
        here = slice(int(first) - low, int(last) - low + 1)
        found["readings_off"].append(abs(int(accepted[here].sum(dtype=np.int64)) - int(is_accepted)))
        found["rejected_off"].append(abs(int(rejected[here].sum(dtype=np.int64)) - int(is_rejected)))
        found["doubled"].append(int(more[(at >= here.start) & (at < here.stop)].sum()))
    return found
