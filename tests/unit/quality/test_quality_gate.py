"""A good day passes the gate; a bad one breaks exactly the expectations that it must."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import TableFeatures, write_deltalake

from pipelines.errors import DataRefused, InfrastructureUnavailable
from pipelines.quality.day import find_day
from pipelines.quality.gate import Verdict, _reading, run_gate
from pipelines.quality.measure import measure
from pipelines.quality.suites import all_suites
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables, open_table, read_rows
from pipelines.tables import METER_WINDOWS, QUALITY_RESULTS, READINGS, RECOMPUTATIONS
from tests.unit.quality import archive, bad_days
from tests.unit.quality.archive import DAY, HOUR, START, World

pytestmark = pytest.mark.quality
SILENT_ON_A_GOOD_DAY = {"volume_ratio"}
"""Columns without a value in this archive: it holds but an hour of the days beside, so they are not to be compared."""


def judged(settings: Settings) -> Verdict:
    return run_gate(settings, DAY, docs=None, say=lambda line: None)


def broken(verdict: Verdict) -> set[str]:
    return {f"{o.suite}.{o.check.name}" for o in (*verdict.failed, *verdict.warned)}


def test_a_good_day_passes_every_expectation_and_each_was_judged(tmp_path: Path) -> None:
    verdict = judged(archive.write(tmp_path))
    assert broken(verdict) == set()
    assert [o.error for o in verdict.outcomes if o.error] == []
    assert len(verdict.outcomes) == sum(len(suite.checks) for suite in all_suites(Settings()))


def test_no_expectation_of_a_good_day_looks_at_nothing(tmp_path: Path) -> None:
    settings = archive.write(tmp_path)
    frames = measure(settings, find_day(settings, DAY), lambda line: None)
    empty = [
        f"{suite.name}.{check.name}"
        for suite in all_suites(settings)
        for check in suite.checks
        if (column := check.arguments.get("column")) and column not in SILENT_ON_A_GOOD_DAY
        if not frames[suite.name][column].notna().any()
    ]
    assert not empty


@pytest.mark.parametrize("bad", bad_days.IN_THE_WORLD, ids=lambda bad: bad.__name__)
def test_what_meters_send_wrong_breaks_what_it_must(bad: bad_days.BadWorld, tmp_path: Path) -> None:
    assert broken(judged(archive.write(tmp_path, world=bad))) == bad_days.BREAKS[bad.__name__]


@pytest.mark.parametrize("bad", bad_days.IN_THE_ARCHIVE, ids=lambda bad: bad.__name__)
def test_what_the_archive_holds_wrong_breaks_what_it_must(bad: bad_days.BadArchive, tmp_path: Path) -> None:
    assert broken(judged(archive.write(tmp_path, archive=bad))) == bad_days.BREAKS[bad.__name__]


def only(first: float, until: float) -> Callable[[World], None]:
    """Nothing before and nothing after these hours of the day."""

    def cut(world: World) -> None:
        at = world.sent["event_ts"]
        world.sent = world.sent[(at >= START + first * HOUR) & (at < START + until * HOUR)]

    return cut


def test_the_first_day_of_an_archive_is_judged_by_what_it_covers(tmp_path: Path) -> None:
    assert broken(judged(archive.write(tmp_path, world=only(13.4, 25)))) == set()


def test_a_meter_with_a_clock_of_another_day_makes_no_neighbour(tmp_path: Path) -> None:
    def bad(world: World) -> None:
        only(13.4, 20.7)(world)
        stray = world.sent.index[:3]
        world.sent.loc[stray, "event_ts"] -= 24 * HOUR
        world.sent.loc[stray, "is_late"] = True

    assert broken(judged(archive.write(tmp_path, world=bad))) == set()


def test_a_day_that_ends_too_soon_is_seen_once_the_next_one_has_begun(tmp_path: Path) -> None:
    def bad(world: World) -> None:
        world.sent = world.sent[~bad_days.between(world.sent, 23, 24)]

    found = broken(judged(archive.write(tmp_path, world=bad)))
    assert found == bad_days.BREAKS["one_hour_missing"] | {"readings.by_meter.meter_still_heard"}


def test_without_a_fleet_no_meter_is_unknown(tmp_path: Path) -> None:
    def bad(tables: archive.Tables) -> None:
        tables["meters"] = tables["meters"].iloc[:0]

    assert broken(judged(archive.write(tmp_path, archive=bad))) == set()


def two_in_one_record(tables: archive.Tables) -> int:
    """A batch's record with two readings, and an offset without a record behind it; returns the second one's index."""
    readings, audit = tables["readings"], tables["audit"]
    batch = audit.iloc[40]
    place = (readings["kafka_partition"] == batch["kafka_partition"]) & readings["kafka_offset"].between(
        batch["first_offset"], batch["last_offset"]
    )
    in_order = readings[place].sort_values("kafka_offset")
    second = in_order.index[in_order["kafka_offset"].diff() == 1][0]
    readings["kafka_item"] = 0
    readings.loc[second, ["kafka_offset", "kafka_item"]] = [readings.loc[second, "kafka_offset"] - 1, 1]
    audit["gaps"] = 0
    audit.loc[audit.index[40], ["records_in", "gaps"]] = [batch["records_in"] - 1, 1]
    return int(second)


def test_records_with_several_readings_and_offsets_without_one_are_no_fault(tmp_path: Path) -> None:
    def several(tables: archive.Tables) -> None:
        two_in_one_record(tables)

    assert broken(judged(archive.write(tmp_path, archive=several))) == set()


def test_an_item_that_is_stored_twice_is_found(tmp_path: Path) -> None:
    def bad(tables: archive.Tables) -> None:
        second = two_in_one_record(tables)
        twice = tables["readings"].loc[[second]].assign(is_resent=True)
        tables["readings"] = pd.concat([tables["readings"], twice])

    assert "audit.batches.record_stored_once" in broken(judged(archive.write(tmp_path, archive=bad)))


def test_a_column_of_another_type_is_told_and_judged_by_its_values(tmp_path: Path) -> None:
    settings = archive.write(tmp_path)
    rows = read_rows(settings, READINGS)
    at = rows.schema.get_field_index("voltage_v")
    as_text = rows.set_column(at, "voltage_v", rows["voltage_v"].cast(pa.string())).drop_columns(["extra"])
    shutil.rmtree(tmp_path / "readings")
    write_deltalake(tmp_path / "readings", as_text, partition_by=["event_date"])
    verdict = judged(settings)
    assert broken(verdict) == {"readings.columns.columns_as_documented"}
    (found,) = verdict.failed
    assert found.examples == [
        {"column": "voltage_v", "stored": "string", "documented": "double"},
        {"column": "extra", "stored": "none", "documented": "string"},
    ]


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    settings = archive.write(tmp_path)
    (file,) = (tmp_path / "readings" / f"event_date={DAY}").glob("*.parquet")
    file.write_bytes(b"PAR1" + b"x" * 1000)
    with pytest.raises(DataRefused, match="a file of a table is gone or damaged") as caught:
        judged(settings)
    assert "\n" not in str(caught.value)
    assert ", table readings: " in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(duckdb.InvalidInputException("x"), DataRefused), (duckdb.HTTPException("x"), InfrastructureUnavailable)],
)
def test_a_damaged_file_in_a_store_is_not_a_store_that_does_not_answer(
    error: duckdb.Error, kind: type[Exception]
) -> None:
    with pytest.raises(kind), _reading(archive.settings_at(Path("s3a:"), lake={"root": "s3a://b/l"})):
        raise error


def test_results_are_not_written_to_a_table_with_a_foreign_feature(tmp_path: Path) -> None:
    settings = archive.write(tmp_path)
    results = open_table(settings, QUALITY_RESULTS)
    results.alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(DataRefused, match=r"table quality_results of .* has deletionVectors"):
        judged(settings)


def test_windows_that_were_computed_again_are_not_compared_with_readings(tmp_path: Path) -> None:
    """A late reading that `gridwatch recompute` counted is one more than the stream's; the other ends are judged."""
    settings = archive.write(tmp_path, archive=bad_days.a_reading_lost)
    check = "meter_windows.by_end.counts_equal_readings"
    ends = pc.unique(read_rows(settings, METER_WINDOWS, columns=["window_end"])["window_end"]).to_pylist()
    create_tables(settings, [RECOMPUTATIONS])
    for some, is_judged in ((ends[:3], True), (ends, False)):
        rows = [{"table_name": METER_WINDOWS.name, "event_ts": end} for end in some]
        append_rows(pa.Table.from_pylist(rows, schema=arrow_schema(RECOMPUTATIONS)), settings, RECOMPUTATIONS)
        assert (check in broken(judged(settings))) == is_judged
