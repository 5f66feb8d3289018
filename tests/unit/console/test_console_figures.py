"""Figures and charts: rates, sums over the audit, what was expected of a meter, and a help text for every rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.anomalies.rules import RULES
from pipelines.console.explain import RULE_HELP
from pipelines.console.gauges import AuditTotals, Rate
from pipelines.console.tables import expected, limits, thin
from pipelines.settings import Detection
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables, read_rows
from pipelines.tables import AUDIT
from tests.unit.identity.lakes import audit as audit_row
from tests.unit.identity.lakes import settings_in


def audit(batch: int, partition: int, last: int, **changes: Any) -> dict[str, Any]:
    """A row of the table audit: ten records in."""
    return {
        "generation": "g", "batch_id": batch, "kafka_partition": partition, "last_offset": last, "records_in": 10,
        "accepted": 9, "rejected": 1, "late": 0, "resent": None, "rejected_by_reason": [("corrupt", 1)],
    } | changes  # fmt: skip


def test_every_rule_is_explained() -> None:
    assert set(RULE_HELP) == {rule.anomaly_type for rule in RULES}


def test_the_rate_is_that_of_the_last_looks() -> None:
    rate = Rate()
    assert rate.of(0, 100) is None
    assert rate.of(1, 300) == 200
    for second in range(2, 20):
        last = rate.of(second, 300)
    assert last == 0


def test_the_audit_is_summed_and_remembers_how_far_each_partition_is() -> None:
    totals = AuditTotals()
    totals.add([audit(0, 0, 9), audit(0, 1, 19), audit(1, 0, 29)])
    totals.add([audit(2, 1, 12)])
    assert totals.archived_end == {0: 30, 1: 20}
    assert (totals.counts["records_in"], totals.counts["resent"], totals.last_batch) == (40, 0, 2)
    assert totals.reasons == {"corrupt": 4}


def test_a_later_generation_counts_its_batches_from_0_and_is_read_whole(tmp_path: Path) -> None:
    settings, totals = settings_in(tmp_path), AuditTotals()
    create_tables(settings)

    def store(generation: str, number: int) -> None:
        batch = BatchId(generation, "archive", number)
        row = audit_row(batch)
        rows = as_arrow([tuple(row.get(name) for name in AUDIT.column_names)], AUDIT)
        append_rows_once(rows, settings, AUDIT, batch)

    def look() -> list[tuple[str, int]]:
        rows = read_rows(settings, AUDIT, where=totals.unread).to_pylist()
        totals.add(rows)
        return [(row["generation"], row["batch_id"]) for row in rows]

    for number in range(3):
        store("a", number)
    assert sorted(look()) == [("a", 0), ("a", 1), ("a", 2)]
    store("b", 0)
    assert look() == [("b", 0)]
    assert totals.last_batch == 0
    store("b", 1)
    assert look() == [("b", 1)]
    assert look() == []


def test_without_history_nothing_is_expected() -> None:
    rules = Detection()
    for window in ({"t": 1, "mean": None, "std": None, "n": 0}, {"t": 1, "mean": 230.0, "std": 1.0, "n": 7}):
        assert expected(window, rules, 230)["low"] is None


def test_the_band_is_as_wide_as_the_rule_allows() -> None:
    rules = Detection(sigma=2.5, min_deviation_pu=0.03, std_floor_pu=0.005)
    calm = expected({"t": 1, "mean": 230.0, "std": 0.1, "n": 20}, rules, 230)
    assert calm["high"] - 230 == pytest.approx(6.9)
    restless = expected({"t": 1, "mean": 230.0, "std": 4.0, "n": 20}, rules, 230)
    assert (restless["low"], restless["high"]) == (220, 240)


def test_the_limits_are_those_of_the_settings_at_the_meters_voltage() -> None:
    found = {limit["name"]: limit["v"] for limit in limits(Detection(), 100)}
    assert found["WARNING below"] == pytest.approx(90)
    assert found["CRITICAL above"] == pytest.approx(120)


def test_thinning_keeps_extremes_order_and_bound() -> None:
    points = [(t, 230.0) for t in range(10_000)]
    points[4321] = (4321, 0.0)
    points[8765] = (8765, 300.0)
    kept = thin(points, 1000)
    assert {(4321, 0.0), (8765, 300.0)} <= set(kept)
    assert kept == sorted(kept)
    assert len(kept) <= 1000
