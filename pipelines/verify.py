"""Reconcile Kafka with the tables: every offset of the topic stands in `readings` or `rejected` exactly once.

Offsets are the proof: Kafka numbers the records of a partition without gaps, so what is missing between two
numbers is lost. (Markers of Kafka's transactions use up offsets too; in a topic with them they count as
lost.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from duckdb import DuckDBPyConnection

from pipelines.errors import SettingsError
from pipelines.lake_sql import open_lake, view_names
from pipelines.settings import Settings
from pipelines.topics import topic_offsets, wait_for_kafka
from pipelines.verify_report import SHOWN_RANGES, OffsetRange, PartitionReport, VerifyReport

__all__ = ["VerifyReport", "verify", "verify_tables"]

Say = Callable[[str], None]
Offsets = Mapping[int, tuple[int, int]]
"""First available and next offset of each Kafka partition."""

_NEEDED = ("readings", "rejected", "audit")


def verify(settings: Settings, say: Say = lambda line: None) -> VerifyReport:
    """Compare the topic of the readings with the lake; may run while the pipeline runs.

    Raises SettingsError when lake or topic is missing, InfrastructureUnavailable when one does not answer.
    """
    topic = settings.kafka.topics.readings
    wait_for_kafka(settings.kafka, say)
    with open_lake(settings, needed=_NEEDED) as lake:
        if absent := [name for name in _NEEDED if name not in view_names(lake)]:
            raise SettingsError(
                f"lake.root = {settings.lake.root!r} has no table {absent[0]}: start `gridwatch run` once"
            )
        return verify_tables(lake, topic=topic, offsets=lambda: topic_offsets(settings.kafka, topic))


def verify_tables(lake: DuckDBPyConnection, *, topic: str, offsets: Offsets | Callable[[], Offsets]) -> VerifyReport:
    """Compare the relations `readings`, `rejected` and `audit` of a connection with Kafka's offsets.

    They are read against the order in which they are written: audit, tables, then Kafka (`offsets` as a
    function). So records that arrive meanwhile are lag, never lost.
    """
    _take_audit(lake, topic)
    _take_rows(lake, topic)
    known = offsets() if callable(offsets) else offsets
    partitions = tuple(_partition(lake, number, known.get(number)) for number in _partition_numbers(lake, known))
    reasons = lake.execute("SELECT reason, count(*) FROM rejected GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()
    return VerifyReport(
        topic=topic,
        partitions=partitions,
        rejected_by_reason=dict(reasons),
        late=_one(lake, "SELECT count(*) FROM readings WHERE is_late"),
        resent=_one(lake, "SELECT count(*) FROM readings WHERE is_resent"),
        audit_problems=tuple(_audit_problems(lake)),
    )


def _take_audit(lake: DuckDBPyConnection, topic: str) -> None:
    names = {row[0] for row in lake.execute("DESCRIBE audit").fetchall()}
    more = "" if "skipped_because" in names else ", NULL::VARCHAR AS skipped_because"
    lake.execute(f"CREATE OR REPLACE TEMP TABLE v_audit AS SELECT *{more} FROM audit WHERE kafka_topic = ?", [topic])


def _take_rows(lake: DuckDBPyConnection, topic: str) -> None:
    """The coordinates of all rows; a row of another topic keeps its partition and loses its offset."""
    lake.execute(
        """CREATE OR REPLACE TEMP TABLE v_rows AS
        SELECT kafka_partition AS p, if(kafka_topic = $topic, kafka_offset, NULL) AS o, true AS accepted
        FROM readings
        UNION ALL
        SELECT kafka_partition, if(kafka_topic = $topic, kafka_offset, NULL), false FROM rejected""",
        {"topic": topic},
    )


def _partition_numbers(lake: DuckDBPyConnection, known: Offsets) -> list[int]:
    stored = lake.execute("SELECT DISTINCT p FROM v_rows UNION SELECT DISTINCT kafka_partition FROM v_audit").fetchall()
    return sorted({*known, *(int(row[0]) for row in stored)})


def _partition(lake: DuckDBPyConnection, number: int, known: tuple[int, int] | None) -> PartitionReport:
    log_start, broker_end = known or (0, 0)
    first, end = lake.execute(
        "SELECT min(first_offset), max(last_offset) + 1 FROM v_audit WHERE kafka_partition = ?", [number]
    ).fetchall()[0]
    committed_end = log_start if end is None else end
    start = log_start if first is None else max(log_start, first)
    counted = {"p": number, "start": start, "committed": committed_end, "end": broker_end}
    archived, rejected, doubled, found, beyond, ahead = lake.execute(
        """SELECT count(*) FILTER (accepted), count(*) FILTER (NOT accepted), count(o) - count(DISTINCT o),
        count(DISTINCT o) FILTER (o >= $start AND o < $committed), count(*) FILTER (o IS NULL OR o >= $end),
        count(*) FILTER (o >= $committed AND o < $end) FROM v_rows WHERE p = $p""",
        counted,
    ).fetchall()[0]
    missing = max(committed_end - start, 0) - found
    skipped = _skipped(lake, counted) if missing else 0
    lost = missing - skipped
    return PartitionReport(
        partition=number,
        log_start=log_start,
        broker_end=broker_end,
        start=start,
        committed_end=committed_end,
        archived=archived,
        rejected=rejected,
        lost=lost,
        lost_ranges=_lost_ranges(lake, number, start, committed_end) if lost else (),
        duplicates=doubled,
        duplicate_offsets=_doubled_offsets(lake, number) if doubled else (),
        beyond=beyond,
        ahead=ahead,
        skipped=skipped,
    )


def _skipped(lake: DuckDBPyConnection, counted: Mapping[str, int]) -> int:
    """Offsets that stand in no table and that a command has noted as lost."""
    return _one(
        lake,
        """SELECT count(*) FROM (
            SELECT unnest(range(greatest(first_offset, $start), least(last_offset + 1, $committed))) AS o
            FROM v_audit WHERE skipped_because IS NOT NULL AND kafka_partition = $p)
        WHERE o NOT IN (SELECT o FROM v_rows WHERE p = $p AND o IS NOT NULL)""",
        {name: counted[name] for name in ("start", "committed", "p")},
    )


def _lost_ranges(lake: DuckDBPyConnection, number: int, start: int, end: int) -> tuple[OffsetRange, ...]:
    rows = lake.execute(
        """SELECT before + 1, o - 1 FROM (
            SELECT o, lag(o, 1, $start - 1) OVER (ORDER BY o) AS before FROM (
                SELECT o FROM v_rows WHERE p = $p AND o >= $start AND o < $end UNION SELECT $end
                UNION SELECT unnest(range(first_offset, last_offset + 1)) FROM v_audit
                WHERE skipped_because IS NOT NULL AND kafka_partition = $p))
        WHERE o > before + 1 ORDER BY 1 LIMIT $shown""",
        {"p": number, "start": start, "end": end, "shown": SHOWN_RANGES},
    ).fetchall()
    return tuple(OffsetRange(*row) for row in rows)


def _doubled_offsets(lake: DuckDBPyConnection, number: int) -> tuple[int, ...]:
    rows = lake.execute(
        "SELECT o FROM v_rows WHERE p = ? AND o >= 0 GROUP BY o HAVING count(*) > 1 ORDER BY o LIMIT ?",
        [number, SHOWN_RANGES],
    ).fetchall()
    return tuple(row[0] for row in rows)


def _audit_problems(lake: DuckDBPyConnection) -> Iterator[str]:
    """What in `audit` contradicts itself or the tables."""
    for part, batch in _some(
        lake,
        "records_in <> accepted + rejected"
        " OR (skipped_because IS NULL AND records_in <> last_offset - first_offset + 1)",
    ):
        yield f"audit: partition {part}, batch {batch}: records_in, its parts and the offsets disagree"
    gaps = lake.execute(
        f"""SELECT p, before + 1, first_offset FROM (
            SELECT kafka_partition AS p, first_offset,
            lag(last_offset) OVER (PARTITION BY kafka_partition ORDER BY first_offset) AS before FROM v_audit)
        WHERE first_offset <> before + 1 ORDER BY 1, 2 LIMIT {SHOWN_RANGES}"""
    ).fetchall()
    for part, expected, got in gaps:
        yield f"audit: partition {part}: a batch begins at offset {got} where {expected} is due"
    sums = lake.execute(
        """WITH a AS (
            SELECT kafka_partition AS p, sum(accepted)::BIGINT AS accepted, sum(rejected)::BIGINT AS rejected,
            max(last_offset) AS last FROM v_audit GROUP BY 1)
        SELECT a.p, any_value(a.accepted), any_value(a.rejected),
        count(*) FILTER (r.accepted) AS in_readings, count(*) FILTER (NOT r.accepted) AS in_rejected
        FROM a LEFT JOIN v_rows r ON r.p = a.p AND r.o <= a.last GROUP BY a.p
        HAVING any_value(a.accepted) <> in_readings OR any_value(a.rejected) <> in_rejected ORDER BY 1"""
    ).fetchall()
    for part, accepted, rejected, in_readings, in_rejected in sums:
        yield (
            f"audit: partition {part} counts {accepted} accepted + {rejected} rejected,"
            f" the tables hold {in_readings} + {in_rejected}"
        )


def _some(lake: DuckDBPyConnection, condition: str) -> list[tuple[Any, ...]]:
    query = f"SELECT kafka_partition, batch_id FROM v_audit WHERE {condition} ORDER BY 1, 2 LIMIT {SHOWN_RANGES}"
    return lake.execute(query).fetchall()


def _one(lake: DuckDBPyConnection, query: str, values: Mapping[str, int] | None = None) -> int:
    return int(lake.execute(query, values or {}).fetchall()[0][0])
