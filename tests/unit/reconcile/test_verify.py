"""Verify finds a row that was lost, doubled or never written, and calls what still waits in Kafka lag."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pytest
from duckdb import DuckDBPyConnection

from pipelines.lake_sql import open_lake
from pipelines.reconcile.ranges import OffsetRange
from pipelines.reconcile.report import SHOWN_RANGES, VerifyReport
from pipelines.reconcile.verify import verify_tables
from pipelines.settings import Settings
from pipelines.small_tables import create_tables

TOPIC = "sensor-readings"


@dataclass
class Lake:
    """Partition 0 holds offsets 10 to 29 in two batches, partition 1 offsets 0 to 9 in one.

    offset     10 ........ 19 | 20 ........ 29        0 ......... 9
    rejected         13       |                             4
    """

    readings: list[tuple[int, int]] = field(default_factory=list)
    rejected: list[tuple[int, int, str]] = field(default_factory=list)
    audit: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    offsets: dict[int, tuple[int, int]] = field(default_factory=dict)
    topic: str = TOPIC
    skipped: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Partition, first and last offset, and how many of them are stored."""

    def verify(self) -> VerifyReport:
        with duckdb.connect() as lake:
            self._fill(lake)
            return verify_tables(lake, topic=TOPIC, offsets=self.offsets)

    def _fill(self, lake: DuckDBPyConnection) -> None:
        place = "kafka_topic TEXT, kafka_partition INT, kafka_offset BIGINT"
        lake.execute(f"CREATE TABLE readings ({place}, is_late BOOLEAN, is_resent BOOLEAN)")
        lake.execute(f"CREATE TABLE rejected ({place}, reason TEXT)")
        lake.execute(
            "CREATE TABLE audit (kafka_topic TEXT, kafka_partition INT, batch_id BIGINT, first_offset BIGINT,"
            " last_offset BIGINT, records_in BIGINT, accepted BIGINT, rejected BIGINT)"
        )
        for p, o in self.readings:
            lake.execute("INSERT INTO readings VALUES (?, ?, ?, ?, ?)", [self.topic, p, o, o == 11, o == 12])
        for p, o, reason in self.rejected:
            lake.execute("INSERT INTO rejected VALUES (?, ?, ?, ?)", [TOPIC, p, o, reason])
        for p, batch, first, last, accepted, rejected in self.audit:
            row = [TOPIC, p, batch, first, last, last - first + 1, accepted, rejected]
            lake.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if self.skipped:
            lake.execute("ALTER TABLE audit ADD COLUMN skipped_because TEXT")
        for p, first, last, stored in self.skipped:
            row = [TOPIC, p, -1, first, last, stored, stored, 0, "why"]
            lake.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)


@pytest.fixture
def lake() -> Lake:
    return Lake(
        readings=[(0, o) for o in range(10, 30) if o != 13] + [(1, o) for o in range(10) if o != 4],
        rejected=[(0, 13, "malformed_json"), (1, 4, "empty_value")],
        audit=[(0, 1, 10, 19, 9, 1), (0, 2, 20, 29, 10, 0), (1, 1, 0, 9, 9, 1)],
        offsets={0: (0, 30), 1: (0, 10)},
    )


def test_a_complete_lake_is_ok(lake: Lake) -> None:
    report = lake.verify()
    assert report.ok
    assert (report.archived, report.rejected, report.unaccounted, report.duplicates, report.lag) == (
        28,
        2,
        0,
        0,
        0,
    )
    assert report.rejected_by_reason == {"empty_value": 1, "malformed_json": 1}
    assert (report.late, report.resent) == (1, 1)
    assert report.verdict == "ok: sensor-readings: 28 archived + 2 rejected, every record exactly once"


def test_a_removed_reading_is_lost_and_named(lake: Lake) -> None:
    lake.readings.remove((0, 15))
    report = lake.verify()
    assert not report.ok
    assert (report.lost, report.unaccounted, report.duplicates) == (1, 1, 0)
    assert report.partitions[0].lost_ranges == (OffsetRange(15, 15),)
    assert "partition 0: 1 offset in neither readings nor rejected: 15;" in report.verdict


def test_a_removed_rejection_is_lost_too(lake: Lake) -> None:
    lake.rejected.remove((1, 4, "empty_value"))
    assert lake.verify().partitions[1].lost_ranges == (OffsetRange(4, 4),)


class TestSkipped:
    """Offsets 30 to 34 were noted as lost, 35 to 39 follow: as skip-range and the next batch leave the tables."""

    @pytest.fixture
    def lake(self, lake: Lake) -> Lake:
        lake.readings += [(0, offset) for offset in range(35, 40)]
        lake.audit.append((0, 1, 35, 39, 5, 0))
        lake.offsets[0] = (0, 40)
        lake.skipped.append((0, 30, 34, 0))
        return lake

    def test_they_are_counted_apart_and_no_fault(self, lake: Lake) -> None:
        report = lake.verify()
        assert report.ok, report.verdict
        assert (report.skipped, report.lost, report.to_json()["skipped"]) == (5, 0, 5)
        assert "33 archived + 2 rejected + 5 noted as skipped" in report.verdict

    def test_without_the_note_they_are_lost(self, lake: Lake) -> None:
        lake.skipped.clear()
        report = lake.verify()
        assert report.lost == 5
        assert report.partitions[0].lost_ranges == (OffsetRange(30, 34),)

    def test_another_lost_offset_is_still_found_and_named(self, lake: Lake) -> None:
        lake.readings.remove((0, 36))
        report = lake.verify()
        assert (report.skipped, report.lost) == (5, 1)
        assert report.partitions[0].lost_ranges == (OffsetRange(36, 36),)

    def test_what_a_crashed_batch_stored_of_the_range_counts_as_stored(self, lake: Lake) -> None:
        lake.readings.append((0, 31))
        lake.skipped[0] = (0, 30, 34, 1)
        report = lake.verify()
        assert report.ok, report.verdict
        assert report.skipped == 4


def test_ranges_at_both_ends_of_what_is_committed_are_found(lake: Lake) -> None:
    for offset in (10, 11, 28, 29):
        lake.readings.remove((0, offset))
    assert lake.verify().partitions[0].lost_ranges == (OffsetRange(10, 11), OffsetRange(28, 29))


def test_only_the_first_ranges_are_named_but_all_are_counted(lake: Lake) -> None:
    lake.readings = [(p, o) for p, o in lake.readings if p or o % 2]
    report = lake.verify()
    assert report.lost == 10
    assert len(report.partitions[0].lost_ranges) == SHOWN_RANGES
    assert ", ..." in report.verdict


@pytest.mark.parametrize("table", ["readings", "rejected"])
def test_a_coordinate_that_stands_twice_is_a_duplicate(lake: Lake, table: str) -> None:
    if table == "readings":
        lake.readings.append((0, 15))
    else:
        lake.rejected.append((0, 15, "too_old"))
    report = lake.verify()
    assert not report.ok
    assert (report.duplicates, report.unaccounted) == (1, 0)
    assert report.partitions[0].duplicate_offsets == (15,)
    assert "1 row too many in readings + rejected, at offset 15" in report.verdict


def test_a_doubled_row_does_not_hide_a_lost_one(lake: Lake) -> None:
    lake.readings.remove((0, 15))
    lake.readings.append((0, 16))
    report = lake.verify()
    assert (report.lost, report.duplicates) == (1, 1)


def test_what_the_archive_has_not_reached_is_lag(lake: Lake) -> None:
    lake.offsets = {0: (0, 37), 1: (0, 10), 2: (0, 5)}
    report = lake.verify()
    assert report.ok
    assert [p.lag for p in report.partitions] == [7, 0, 5]
    assert "12 more wait in Kafka (lag)" in report.verdict


def test_rows_whose_audit_is_still_to_come_are_ahead(lake: Lake) -> None:
    lake.offsets[0] = (0, 32)
    lake.readings += [(0, 30), (0, 31)]
    report = lake.verify()
    assert report.ok
    assert report.partitions[0].ahead == 2


def test_records_that_kafka_has_deleted_are_not_missed(lake: Lake) -> None:
    lake.offsets[0] = (20, 30)
    lake.readings.remove((0, 15))
    report = lake.verify()
    assert report.partitions[0].start == 20
    assert report.lost == 0


def test_rows_that_kafka_never_had_are_unaccounted(lake: Lake) -> None:
    lake.offsets[0] = (0, 25)
    report = lake.verify()
    assert not report.ok
    assert (report.partitions[0].beyond, report.unaccounted) == (5, 5)
    assert "5 rows that Kafka does not know (its end is 25)" in report.verdict


def test_rows_of_a_partition_or_a_topic_kafka_does_not_have_are_unaccounted(lake: Lake) -> None:
    del lake.offsets[1]
    assert lake.verify().partitions[1].beyond == 10
    lake.topic = "another"
    assert lake.verify().unaccounted >= len(lake.readings)


def wrong_sum(lake: Lake) -> None:
    lake.audit[0] = (0, 1, 10, 19, 8, 1)


def gap(lake: Lake) -> None:
    lake.audit[1] = (0, 2, 21, 29, 9, 0)


def overlap(lake: Lake) -> None:
    lake.audit.append((0, 3, 25, 29, 5, 0))


def swapped(lake: Lake) -> None:
    lake.audit[0] = (0, 1, 10, 19, 8, 2)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (wrong_sum, "partition 0, batch 1: records_in, its parts, the gaps and the offsets disagree"),
        (gap, "partition 0: a batch begins at offset 21 where 20 is due"),
        (overlap, "partition 0: a batch begins at offset 25 where 30 is due"),
        (swapped, "partition 0 counts 18 accepted + 2 rejected of 20 records, the tables hold 19 + 1 of 20"),
    ],
)
def test_an_audit_that_contradicts_itself_or_the_tables_is_named(
    lake: Lake, spoil: Callable[[Lake], None], words: str
) -> None:
    spoil(lake)
    report = lake.verify()
    assert not report.ok
    assert any(words in problem for problem in report.audit_problems)


def test_the_report_is_json_with_its_sums(lake: Lake) -> None:
    lake.readings.remove((0, 15))
    document: dict[str, Any] = json.loads(json.dumps(lake.verify().to_json()))
    assert (document["ok"], document["archived"], document["lost"]) == (False, 27, 1)
    assert document["partitions"][0]["lost_ranges"] == [{"first": 15, "last": 15}]
    assert document["partitions"][0]["lag"] == 0


@pytest.fixture
def new_lake(tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    settings = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(settings)
    with open_lake(settings) as connection:
        yield connection


def test_a_new_lake_has_only_lag(new_lake: DuckDBPyConnection) -> None:
    report = verify_tables(new_lake, topic=TOPIC, offsets={0: (5, 25)})
    assert report.ok
    assert (report.archived, report.lag) == (0, 20)


def test_kafka_is_asked_after_the_tables(new_lake: DuckDBPyConnection) -> None:
    def offsets() -> dict[int, tuple[int, int]]:
        assert new_lake.execute("SELECT count(*) FROM v_rows").fetchall() == [(0,)]
        return {0: (0, 0)}

    assert verify_tables(new_lake, topic=TOPIC, offsets=offsets).ok
