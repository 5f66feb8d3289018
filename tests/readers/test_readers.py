"""Every table is read alike by Spark, DuckDB, deltalake and Polars: the rows that were written, value by value."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from pyspark.sql import SparkSession

from pipelines.lake.delta import commit_files
from pipelines.lake.parquet import DataFile, write_data_file
from pipelines.lake.store import object_store
from pipelines.settings import Settings
from pipelines.sinks import BatchId, append_once
from pipelines.small_tables import append_rows_once, create_tables, merge_rows
from pipelines.table_features import ALLOWED, features_of
from pipelines.tables import INCIDENTS, METER_WINDOWS, PANES, READINGS, REJECTED, TABLES, Table, table_path
from pipelines.upkeep import look_after
from tests.readers.__main__ import main
from tests.readers.engines import NAMES, Engine, engines
from tests.readers.matrix import DIFFERENT, FAILED, SAME, WRITTEN, matrix
from tests.readers.samples import comparable, rows

pytestmark = pytest.mark.readers

BY_SPARK = (METER_WINDOWS,)
BY_POLARS = (READINGS, REJECTED, PANES)
WITHOUT_JVM = "duckdb,deltalake,polars"


def write(settings: Settings, table: Table, found: pa.Table, number: int, spark: SparkSession | None) -> None:
    """One batch, by the library that writes this table in the pipeline."""
    batch = BatchId("generation", "query", number)
    if spark is not None and table in BY_SPARK:
        append_once(spark.createDataFrame(found), settings, table, batch)
    elif table in BY_POLARS:
        commit_files(settings, table, data_files(settings, table, found), batch)
    else:
        append_rows_once(found, settings, table, batch)


def data_files(settings: Settings, table: Table, found: pa.Table) -> list[DataFile]:
    """A file for each value of the partition, as the archive's workers write them."""
    objects = object_store(settings.lake.root, settings.store)
    frame = pl.DataFrame(found)
    parts = frame.partition_by(table.partition_by) if table.partition_by else [frame]
    return [write_data_file(part, table, objects) for part in parts]


def filled(folder: Path, spark: SparkSession | None) -> Settings:
    """Every table with nine rows of two batches."""
    settings = Settings.model_validate({"lake": {"root": str(folder / "lake")}})
    create_tables(settings)
    for table in TABLES.values():
        write(settings, table, rows(table, 0, 5), 0, spark)
        write(settings, table, rows(table, 5, 4), 1, spark)
    return settings


@dataclass
class Lake:
    settings: Settings
    readers: Mapping[str, Engine]
    written: Mapping[str, pa.Table]


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two batches, upkeep with a checkpoint of the log, then a MERGE with a deletion and one more batch."""
    settings = filled(tmp_path_factory.mktemp("readers"), spark)
    written = {name: rows(table, 0, 9) for name, table in TABLES.items()}
    for table in TABLES.values():
        look_after(settings, table, thorough=True)
    changed = rows(INCIDENTS, 9, 1).set_column(0, INCIDENTS.schema[0].name, pa.array(["1"]))
    merge_rows(changed, ["0"], settings, INCIDENTS, key="incident_id")
    written["incidents"] = pa.concat_tables([written["incidents"].slice(2), changed.cast(written["incidents"].schema)])
    write(settings, READINGS, rows(READINGS, 9, 3), 2, spark)
    written["readings"] = rows(READINGS, 0, 12)
    return Lake(settings, engines(settings, spark), written)


@pytest.mark.parametrize("reader", NAMES)
@pytest.mark.parametrize("name", TABLES)
def test_a_reader_finds_the_rows_that_were_written(lake: Lake, name: str, reader: str) -> None:
    found = lake.readers[reader].rows(name)
    assert found.column_names == TABLES[name].column_names
    assert comparable(found) == comparable(lake.written[name])


def test_all_readers_count_what_was_written(lake: Lake) -> None:
    lines = {line.table: line for line in matrix(lake.settings, lake.readers)}
    assert {name: line.rows for name, line in lines.items()} == {
        name: dict.fromkeys(NAMES, found.num_rows) for name, found in lake.written.items()
    }
    assert {line.verdict for line in lines.values()} == {SAME}


def test_what_spark_and_upkeep_wrote_has_no_other_feature(lake: Lake) -> None:
    assert {name: features_of(lake.settings, table) for name, table in TABLES.items()} == dict.fromkeys(TABLES, ALLOWED)
    logs = [Path(table_path(lake.settings.lake.root, name), "_delta_log") for name in TABLES]
    assert all(list(log.glob("*.checkpoint.parquet")) for log in logs)
    assert not [path for log in logs for path in (*log.glob("_sidecars/*"), *log.glob("*.checkpoint.*.*"))]


@pytest.fixture
def quick(tmp_path: Path) -> Settings:
    """The tables without a JVM."""
    return filled(tmp_path, None)


def test_the_command_prints_tables_by_readers(quick: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--lake", quick.lake.root, "--readers", WITHOUT_JVM]) == 0
    head, _, *lines = capsys.readouterr().out.splitlines()
    assert [word for word in head.split() if word.isalpha()] == ["table", "version", *WITHOUT_JVM.split(","), "verdict"]
    assert [line.split() for line in lines] == [[name, "2", "9", "9", "9", SAME] for name in TABLES]


def test_the_command_fails_for_a_table_that_a_reader_cannot_read(
    quick: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in Path(table_path(quick.lake.root, "incidents")).glob("*.parquet"):
        file.unlink()
    assert main(["--lake", quick.lake.root, "--readers", WITHOUT_JVM, "--json"]) == 1
    tables = {line["table"]: line for line in json.loads(capsys.readouterr().out)["tables"]}
    assert {name for name, line in tables.items() if line["verdict"] == FAILED} == {"incidents"}
    assert all(isinstance(found, str) for found in tables["incidents"]["rows"].values())


def test_a_lake_that_is_not_there_and_a_reader_that_is_none_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--lake", str(tmp_path), "--readers", "polars"]) == 2
    assert main(["--lake", str(tmp_path), "--readers", "polars,excel"]) == 2
    assert "--readers 'excel': give some of spark, duckdb, deltalake, polars" in capsys.readouterr().err


def test_readers_that_differ_and_a_table_that_is_written_meanwhile_are_told_apart(quick: Settings) -> None:
    readers = engines(quick, None)

    def counted_and_written(name: str) -> int:
        if name == "replays":
            append_rows_once(rows(TABLES[name], 9, 1), quick, TABLES[name], BatchId("g", "q", next(numbers)))
        return readers["polars"].count(name)

    def counted_less(name: str) -> int:
        return readers["polars"].count(name) - (name == "labels")

    numbers: Iterator[int] = iter(range(100))
    odd = {"deltalake": readers["deltalake"], "odd": Engine("odd", readers["polars"].rows, counted_and_written)}
    verdicts = {line.table: line.verdict for line in matrix(quick, odd)}
    assert {name for name, verdict in verdicts.items() if verdict == WRITTEN} == {"replays"}
    odd["odd"] = Engine("odd", readers["polars"].rows, counted_less)
    verdicts = {line.table: line.verdict for line in matrix(quick, odd)}
    assert {name for name, verdict in verdicts.items() if verdict == DIFFERENT} == {"labels"}
