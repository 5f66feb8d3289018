"""Reconcile Kafka with the tables: every record of the topic is in `readings` or `rejected` exactly once.

Offsets are the proof: Kafka numbers the records of a partition, so what is missing between two numbers is lost, unless
Kafka holds no record there (a transaction's marker, or an aborted record). A record may carry several readings: its
items are numbered from 0, and none of them may be missing or stored twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from duckdb import DuckDBPyConnection

from pipelines.broker.ends import committed_ends
from pipelines.errors import SettingsError
from pipelines.lake_sql import open_lake, view_names
from pipelines.reconcile.audit import audit_problems
from pipelines.reconcile.gaps import BatchGaps, Gaps, KafkaAgain, LookAgain, explain_missing
from pipelines.reconcile.ranges import OffsetRange, beyond, common, count_offsets, united
from pipelines.reconcile.report import SHOWN_RANGES, PartitionReport, VerifyReport
from pipelines.settings import Settings
from pipelines.topics import topic_offsets, wait_for_kafka

__all__ = ["VerifyReport", "verify", "verify_tables"]

Say = Callable[[str], None]
Offsets = Mapping[int, tuple[int, int]]
"""First available and next offset of each Kafka partition."""

_NEEDED = ("readings", "rejected", "audit")
_ADDED = {"skipped_because": "VARCHAR", "gaps": "BIGINT"}
"""Columns that older tables of `audit` do not have."""


def verify(settings: Settings, say: Say = lambda line: None) -> VerifyReport:
    """Compare the topic of the readings with the lake; may run while the pipeline runs.

    Offsets without a record are read again from Kafka. Raises SettingsError when lake or topic is missing,
    InfrastructureUnavailable when one does not answer.
    """
    topic = settings.kafka.topics.readings
    wait_for_kafka(settings.kafka, say)
    with open_lake(settings, needed=_NEEDED) as lake:
        if absent := [name for name in _NEEDED if name not in view_names(lake)]:
            raise SettingsError(
                f"lake.root = {settings.lake.root!r} has no table {absent[0]}: start `gridwatch run` once"
            )
        return verify_tables(
            lake,
            topic=topic,
            offsets=lambda: topic_offsets(settings.kafka, topic),
            readable_ends=lambda: committed_ends(settings.kafka, topic),
            look_again=KafkaAgain(settings, say),
        )


def verify_tables(
    lake: DuckDBPyConnection,
    *,
    topic: str,
    offsets: Offsets | Callable[[], Offsets],
    readable_ends: Callable[[], Mapping[int, int]] | None = None,
    look_again: LookAgain | None = None,
) -> VerifyReport:
    """Compare the relations `readings`, `rejected` and `audit` of a connection with Kafka's offsets.

    They are read against the order in which they are written: audit, tables, then Kafka (`offsets` as a
    function). So records that arrive meanwhile are lag, never lost. `readable_ends` says where readers of committed
    records stop: what is behind is no lag. Without `look_again` the gaps that `audit` counts are believed.
    """
    _take_audit(lake, topic)
    _take_rows(lake, topic)
    known = offsets() if callable(offsets) else offsets
    readable = readable_ends() if readable_ends else {}
    problems = list[str]()
    partitions = []
    for number in _partition_numbers(lake, known):
        report, problem = _partition(lake, number, known.get(number), look_again)
        partitions.append(replace(report, readable_end=readable.get(number)))
        problems += [problem] if problem and problem not in problems else []
    reasons = lake.execute("SELECT reason, count(*) FROM rejected GROUP BY 1 ORDER BY 2 DESC, 1").fetchall()
    return VerifyReport(
        topic=topic,
        partitions=tuple(partitions),
        rejected_by_reason=dict(reasons),
        late=_one(lake, "SELECT count(*) FROM readings WHERE is_late"),
        resent=_one(lake, "SELECT count(*) FROM readings WHERE is_resent"),
        audit_problems=(*problems, *audit_problems(lake)),
    )


def _take_audit(lake: DuckDBPyConnection, topic: str) -> None:
    """The rows of audit; `gaps` of a batch that did not count them follows from its other figures."""
    names = _columns(lake, "audit")
    more = "".join(f", NULL::{kind} AS {name}" for name, kind in _ADDED.items() if name not in names)
    lake.execute(
        f"""CREATE OR REPLACE TEMP TABLE v_audit AS
        SELECT * REPLACE (
            if(skipped_because IS NULL, coalesce(gaps, greatest(last_offset - first_offset + 1 - records_in, 0)), 0)
            AS gaps)
        FROM (SELECT *{more} FROM audit WHERE kafka_topic = $topic)""",
        {"topic": topic},
    )


def _take_rows(lake: DuckDBPyConnection, topic: str) -> None:
    """The coordinates of all rows; a row of another topic keeps its partition and loses its offset."""
    readings, rejected = (
        f"""SELECT kafka_partition AS p, if(kafka_topic = $topic, kafka_offset, NULL) AS o, {_item(lake, name)} AS item,
        {accepted} AS accepted FROM {name}"""
        for name, accepted in (("readings", "true"), ("rejected", "false"))
    )
    lake.execute(f"CREATE OR REPLACE TEMP TABLE v_rows AS {readings} UNION ALL {rejected}", {"topic": topic})


def _item(lake: DuckDBPyConnection, table: str) -> str:
    return "coalesce(kafka_item, 0)" if "kafka_item" in _columns(lake, table) else "0"


def _columns(lake: DuckDBPyConnection, table: str) -> set[str]:
    return {row[0] for row in lake.execute(f"DESCRIBE {table}").fetchall()}


def _partition_numbers(lake: DuckDBPyConnection, known: Offsets) -> list[int]:
    stored = lake.execute("SELECT DISTINCT p FROM v_rows UNION SELECT DISTINCT kafka_partition FROM v_audit").fetchall()
    return sorted({*known, *(int(row[0]) for row in stored)})


def _partition(
    lake: DuckDBPyConnection, number: int, known: tuple[int, int] | None, look_again: LookAgain | None
) -> tuple[PartitionReport, str | None]:
    """What is so of one partition, and what hinders the reading again, if anything does."""
    log_start, broker_end = known or (0, 0)
    first, end = lake.execute(
        "SELECT min(first_offset), max(last_offset) + 1 FROM v_audit WHERE kafka_partition = ?", [number]
    ).fetchall()[0]
    committed_end = log_start if end is None else end
    start = log_start if first is None else max(log_start, first)
    counted = {"p": number, "start": start, "committed": committed_end, "end": broker_end}
    archived, rejected, found, past_end, ahead, most = lake.execute(
        """SELECT count(*) FILTER (accepted), count(*) FILTER (NOT accepted),
        count(DISTINCT o) FILTER (o >= $start AND o < $committed), count(*) FILTER (o IS NULL OR o >= $end),
        count(*) FILTER (o >= $committed AND o < $end), max(item) FROM v_rows WHERE p = $p""",
        counted,
    ).fetchall()[0]
    is_complete = found == max(committed_end - start, 0)
    skipped, gaps = (0, Gaps()) if is_complete else _explain(lake, number, start, committed_end, look_again)
    doubled, holes = _count_items(lake, number, has_items=bool(most))
    report = PartitionReport(
        partition=number,
        log_start=log_start,
        broker_end=broker_end,
        start=start,
        committed_end=committed_end,
        archived=archived,
        rejected=rejected,
        lost=gaps.lost_count,
        lost_ranges=gaps.lost[:SHOWN_RANGES],
        duplicates=doubled,
        duplicate_offsets=_doubled_offsets(lake, number) if doubled else (),
        beyond=past_end,
        ahead=ahead,
        skipped=skipped,
        gaps=gaps.count,
        markers=gaps.markers,
        aborted=gaps.aborted,
        missing_items=holes,
        missing_item_offsets=_offsets_with_holes(lake, number) if holes else (),
    )
    return report, gaps.problem


def _explain(
    lake: DuckDBPyConnection, number: int, start: int, end: int, look_again: LookAgain | None
) -> tuple[int, Gaps]:
    """Of the offsets that are in no table: how many a command has noted as lost, and what became of the others."""
    missing = _ranges(
        lake,
        """SELECT before + 1, o - 1 FROM (
            SELECT o, lag(o, 1, $start - 1) OVER (ORDER BY o) AS before FROM (
                SELECT DISTINCT o FROM v_rows WHERE p = $p AND o >= $start AND o < $end UNION ALL SELECT $end))
        WHERE o > before + 1 ORDER BY 1""",
        {"p": number, "start": start, "end": end},
    )
    given_up = united(
        _ranges(
            lake,
            "SELECT first_offset, last_offset FROM v_audit WHERE skipped_because IS NOT NULL AND kafka_partition = $p",
            {"p": number},
        )
    )
    rows = lake.execute(
        """SELECT first_offset, last_offset, gaps FROM v_audit
        WHERE gaps > 0 AND kafka_partition = $p AND last_offset >= $start ORDER BY 1""",
        {"p": number, "start": start},
    ).fetchall()
    batches = [BatchGaps(OffsetRange(first, last), gaps) for first, last, gaps in rows]
    skipped = count_offsets(common(missing, given_up))
    return skipped, explain_missing(beyond(missing, given_up), batches, number, look_again)


def _ranges(lake: DuckDBPyConnection, query: str, values: Mapping[str, int]) -> list[OffsetRange]:
    return [OffsetRange(first, last) for first, last in lake.execute(query, values).fetchall()]


def _count_items(lake: DuckDBPyConnection, number: int, *, has_items: bool) -> tuple[int, int]:
    """Rows beyond the first of an offset and item, and items that are missing below the highest one of their offset."""
    if not has_items:  # an item is always 0, which is counted in a fraction of the time
        return _one(lake, "SELECT count(o) - count(DISTINCT o) FROM v_rows WHERE p = $p", {"p": number}), 0
    doubled, holes = lake.execute(
        f"SELECT coalesce(sum(n - items), 0)::BIGINT, coalesce(sum(top + 1 - items), 0)::BIGINT FROM ({_BY_OFFSET})",
        {"p": number},
    ).fetchall()[0]
    return int(doubled), int(holes)


_BY_OFFSET = """
SELECT o, count(*) AS n, count(DISTINCT item) AS items, max(item) AS top FROM v_rows
WHERE p = $p AND o IS NOT NULL GROUP BY o"""


def _doubled_offsets(lake: DuckDBPyConnection, number: int) -> tuple[int, ...]:
    return _first_offsets(
        lake,
        "SELECT DISTINCT o FROM (SELECT o FROM v_rows WHERE p = $p AND o >= 0 GROUP BY o, item HAVING count(*) > 1)",
        number,
    )


def _offsets_with_holes(lake: DuckDBPyConnection, number: int) -> tuple[int, ...]:
    return _first_offsets(lake, f"SELECT o FROM ({_BY_OFFSET}) WHERE top + 1 > items", number)


def _first_offsets(lake: DuckDBPyConnection, query: str, number: int) -> tuple[int, ...]:
    rows = lake.execute(f"{query} ORDER BY o LIMIT {SHOWN_RANGES}", {"p": number}).fetchall()
    return tuple(row[0] for row in rows)


def _one(lake: DuckDBPyConnection, query: str, values: Mapping[str, int] | None = None) -> int:
    return int(lake.execute(query, values or {}).fetchall()[0][0])
