"""Verify counts by offset and item, and tells offsets without a record from lost ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipelines.lake_sql import open_lake
from pipelines.reconcile.gaps import Gaps, LookAgain
from pipelines.reconcile.ranges import OffsetRange, count_offsets
from pipelines.reconcile.report import VerifyReport
from pipelines.reconcile.verify import verify_tables
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow
from pipelines.tables import AUDIT, READINGS, REJECTED, Table
from tests.unit.identity.lakes import Lake, audit, reading, settings_in


@dataclass
class Stored:
    """Ten offsets of partition 0 in two batches of five records each, in real tables.

    offset     0  1  2        3  4 | 5  6  7  8  9
    items      1  1  3 (1 bad) 1 1 | 1  1  1  1  1
    """

    settings: Settings
    readings: list[tuple[int, int | None]] = field(
        default_factory=lambda: [(o, 0) for o in (0, 1, 2, 3, 4)] + [(2, 2)] + [(o, None) for o in (5, 6, 7, 8, 9)]
    )
    rejected: list[tuple[int, int | None]] = field(default_factory=lambda: [(2, 1)])
    batches: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"first_offset": 0, "last_offset": 4, "records_in": 5, "accepted": 6, "rejected": 1, "gaps": 0},
            {"first_offset": 5, "last_offset": 9, "records_in": 5, "accepted": 5, "rejected": 0, "gaps": None},
        ]
    )

    def verify(self, look_again: LookAgain | None = None, log_start: int = 0) -> VerifyReport:
        self._write(READINGS, [reading(o, kafka_item=item) for o, item in self.readings])
        bad = [reading(o, kafka_item=item, reason="wrong_type", rule_version="1") for o, item in self.rejected]
        self._write(REJECTED, bad)
        batches = [BatchId("g", "archive", number) for number in range(len(self.batches))]
        self._write(AUDIT, [audit(batch) | row for batch, row in zip(batches, self.batches, strict=True)])
        with open_lake(self.settings) as lake:
            return verify_tables(lake, topic="sensor-readings", offsets={0: (log_start, 10)}, look_again=look_again)

    def remove(self, *offsets: int, gaps: int) -> None:
        """The second batch has no rows at these offsets, and says that so many of its offsets held no record."""
        self.readings = [(o, item) for o, item in self.readings if o not in offsets]
        self.batches[1] |= {"gaps": gaps, "records_in": 5 - gaps, "accepted": 5 - gaps}

    def _write(self, table: Table, rows: list[dict[str, Any]]) -> None:
        tuples = [tuple(row.get(name) for name in table.column_names) for row in rows]
        append_rows_once(as_arrow(tuples, table), self.settings, table, BatchId("g", "archive", 0))


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(Lake(settings_in(tmp_path)).make(batches=0).settings)


def no_reader(partition: int, missing: Sequence[OffsetRange]) -> Gaps:
    raise AssertionError(f"partition {partition}: {missing} read again for nothing")


def test_a_record_with_several_readings_is_complete_with_all_its_items(stored: Stored) -> None:
    report = stored.verify(no_reader)
    assert report.ok, report.verdict
    assert (report.archived, report.rejected, report.duplicates, report.gaps) == (11, 1, 0, 0)


def test_an_item_that_is_stored_twice_is_a_duplicate_though_its_offset_has_others(stored: Stored) -> None:
    stored.readings.append((2, 2))
    report = stored.verify()
    assert (report.duplicates, report.partitions[0].duplicate_offsets) == (1, (2,))
    assert not report.ok


def test_an_item_that_is_accepted_and_rejected_is_a_duplicate(stored: Stored) -> None:
    stored.rejected.append((2, 0))
    assert stored.verify().duplicates == 1


def test_a_missing_item_is_named_though_its_offset_is_stored(stored: Stored) -> None:
    stored.rejected.remove((2, 1))
    report = stored.verify()
    assert (report.missing_items, report.lost, report.unaccounted) == (1, 0, 1)
    assert "partition 0: 1 reading missing within records, at offset 2" in report.verdict


def test_a_missing_last_item_is_found_by_the_sums_of_audit(stored: Stored) -> None:
    stored.readings.remove((2, 2))
    report = stored.verify()
    assert report.missing_items == 0
    assert not report.ok
    assert "counts 11 accepted + 1 rejected of 10 records, the tables hold 10 + 1 of 10" in report.verdict


def test_offsets_that_audit_counts_as_gaps_are_not_lost(stored: Stored) -> None:
    stored.remove(6, 9, gaps=2)
    report = stored.verify()
    assert report.ok, report.verdict
    assert (report.gaps, report.lost, report.to_json()["gaps"]) == (2, 0, 2)
    assert "2 offsets without a record" in report.verdict


def test_an_older_lake_that_counted_no_gaps_says_them_by_its_records(stored: Stored) -> None:
    stored.remove(6, gaps=1)
    stored.batches[1]["gaps"] = None
    report = stored.verify()
    assert report.ok, report.verdict
    assert report.gaps == 1


def kafka_with(*, committed: Sequence[int] = (), aborted: int = 0) -> Callable[[int, Sequence[OffsetRange]], Gaps]:
    def look_again(partition: int, missing: Sequence[OffsetRange]) -> Gaps:
        lost = tuple(OffsetRange(o, o) for o in committed if any(r.first <= o <= r.last for r in missing))
        left = count_offsets(missing) - len(lost)
        return Gaps(lost, len(lost), markers=left - aborted, aborted=aborted)

    return look_again


def test_what_kafka_gives_as_committed_is_lost_whatever_audit_says(stored: Stored) -> None:
    stored.remove(6, 9, gaps=2)
    report = stored.verify(kafka_with(committed=[6]))
    assert (report.lost, report.gaps, report.markers) == (1, 1, 1)
    assert report.partitions[0].lost_ranges == (OffsetRange(6, 6),)


def test_aborted_records_are_told_from_markers(stored: Stored) -> None:
    stored.remove(6, 8, 9, gaps=3)
    report = stored.verify(kafka_with(aborted=2))
    assert report.ok, report.verdict
    assert (report.gaps, report.markers, report.aborted) == (3, 1, 2)
    assert "3 offsets without a record (1 marker, 2 aborted)" in report.verdict


def test_a_missing_record_of_a_batch_without_gaps_is_lost_without_asking_kafka(stored: Stored) -> None:
    stored.readings.remove((3, 0))
    report = stored.verify(no_reader)
    assert (report.lost, report.partitions[0].lost_ranges) == (1, (OffsetRange(3, 3),))


def test_more_missing_offsets_than_audit_has_gaps_are_a_fault(stored: Stored) -> None:
    stored.remove(6, gaps=1)
    stored.readings.remove((8, None))
    assert stored.verify().lost == 1


def test_gaps_that_kafka_has_removed_are_not_asked_for(stored: Stored) -> None:
    stored.remove(6, gaps=1)
    report = stored.verify(no_reader, log_start=8)
    assert report.ok, report.verdict


def test_gaps_that_do_not_fit_the_offsets_are_a_contradiction(stored: Stored) -> None:
    stored.batches[0]["gaps"] = 1
    assert "batch 0: records_in, its parts, the gaps and the offsets disagree" in stored.verify().verdict


def test_why_nothing_could_be_read_again_is_said_once(stored: Stored) -> None:
    stored.remove(6, gaps=1)

    def compacted(partition: int, missing: Sequence[OffsetRange]) -> Gaps:
        return Gaps(tuple(missing), count_offsets(missing), problem="the topic is compacted")

    report = stored.verify(compacted)
    assert report.audit_problems == ("the topic is compacted",)
    assert report.lost == 1
