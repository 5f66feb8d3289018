"""What in the table audit contradicts itself or the tables that it counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from duckdb import DuckDBPyConnection

from pipelines.reconcile.report import SHOWN_RANGES


def audit_problems(lake: DuckDBPyConnection) -> Iterator[str]:
    """One sentence per contradiction, over the relations v_audit and v_rows of `verify_tables`.

    A record has one row or more; the records of a batch are the offsets of its range less the gaps.
    """
    for part, batch in _some(
        lake,
        "records_in > accepted + rejected"
        " OR (skipped_because IS NULL AND records_in <> last_offset - first_offset + 1 - gaps)",
    ):
        yield f"audit: partition {part}, batch {batch}: records_in, its parts, the gaps and the offsets disagree"
    holes = lake.execute(
        f"""SELECT p, before + 1, first_offset FROM (
            SELECT kafka_partition AS p, first_offset,
            lag(last_offset) OVER (PARTITION BY kafka_partition ORDER BY first_offset) AS before FROM v_audit)
        WHERE first_offset <> before + 1 ORDER BY 1, 2 LIMIT {SHOWN_RANGES}"""
    ).fetchall()
    for part, expected, got in holes:
        yield f"audit: partition {part}: a batch begins at offset {got} where {expected} is due"
    sums = lake.execute(
        """WITH a AS (
            SELECT kafka_partition AS p, sum(records_in)::BIGINT AS records, sum(accepted)::BIGINT AS accepted,
            sum(rejected)::BIGINT AS rejected, max(last_offset) AS last FROM v_audit GROUP BY 1)
        SELECT a.p, any_value(a.records), any_value(a.accepted), any_value(a.rejected), count(DISTINCT r.o) AS stored,
        count(*) FILTER (r.accepted) AS in_readings, count(*) FILTER (NOT r.accepted) AS in_rejected
        FROM a LEFT JOIN v_rows r ON r.p = a.p AND r.o <= a.last GROUP BY a.p
        HAVING any_value(a.accepted) <> in_readings OR any_value(a.rejected) <> in_rejected
            OR any_value(a.records) <> stored ORDER BY 1"""
    ).fetchall()
    for part, records, accepted, rejected, stored, in_readings, in_rejected in sums:
        yield (
            f"audit: partition {part} counts {accepted} accepted + {rejected} rejected of {records} records,"
            f" the tables hold {in_readings} + {in_rejected} of {stored}"
        )


def _some(lake: DuckDBPyConnection, condition: str) -> list[tuple[Any, ...]]:
    query = f"SELECT kafka_partition, batch_id FROM v_audit WHERE {condition} ORDER BY 1, 2 LIMIT {SHOWN_RANGES}"
    return lake.execute(query).fetchall()
