"""DuckDB sees every table of the lake as a view, answers in UTC and cannot write."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
from duckdb import DuckDBPyConnection
from pydantic import SecretStr

from pipelines.errors import DataRefused, SettingsError
from pipelines.lake_sql import ask_lake, open_lake, run_sql, secret_statement, view_names
from pipelines.settings import Settings, Store
from pipelines.small_tables import as_arrow, create_tables, replace_rows
from pipelines.tables import LABELS, METERS, TABLES


def settings_at(root: Path) -> Settings:
    return Settings.model_validate({"lake": {"root": str(root)}})


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[DuckDBPyConnection]:
    """All tables, empty but for two meters."""
    settings = settings_at(tmp_path / "lake's folder")
    create_tables(settings)
    rows = [(name, "f-1", "t-1", "A", 230.0, 60.0, None, None) for name in ("m-1", "m-2")]
    replace_rows(as_arrow(rows, METERS), settings, METERS)
    with open_lake(settings) as connection:
        yield connection


def refusal(lake: DuckDBPyConnection, sql: str) -> str:
    with pytest.raises(SettingsError) as caught:
        run_sql(lake, sql)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_table_is_a_view_with_its_columns(lake: DuckDBPyConnection) -> None:
    assert view_names(lake) == sorted(TABLES)
    for table in TABLES.values():
        answer = run_sql(lake, f"SELECT * FROM {table.name}")
        assert [column[0] for column in answer.description or ()] == table.column_names


def test_rows_come_back_and_an_empty_table_has_none(lake: DuckDBPyConnection) -> None:
    assert run_sql(lake, "SELECT meter_id FROM meters ORDER BY 1").fetchall() == [("m-1",), ("m-2",)]
    assert run_sql(lake, "SELECT count(*), max(event_ts) FROM readings").fetchall() == [(0, None)]


def test_times_are_utc_wherever_the_machine_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    settings = settings_at(tmp_path / "lake")
    create_tables(settings)
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    row = ("f", "sag", "meter", "m-1", None, None, at, at, 1.0, "undervoltage")
    replace_rows(as_arrow([row], LABELS), settings, LABELS)
    with open_lake(settings) as lake:
        assert run_sql(lake, 'SELECT "start", "start"::text FROM labels').fetchall() == [(at, "2026-01-02 03:04:05+00")]


@pytest.mark.parametrize(
    "sql",
    [
        "COPY meters TO '/dev/null'",
        "INSERT INTO meters SELECT * FROM meters",
        "DELETE FROM meters",
        "ATTACH 'x.db'",
        "EXPORT DATABASE 'x'",
        "EXPLAIN ANALYZE COPY meters TO '/dev/null'",
        "/**/ EXPLAIN ANALYZE COPY meters TO '/dev/null'",
        "SELECT 1; COPY meters TO '/dev/null'",
        "PREPARE x AS COPY meters TO '/dev/null'",
    ],
)
def test_a_statement_that_writes_is_refused(lake: DuckDBPyConnection, sql: str) -> None:
    assert "is refused: `gridwatch sql` only reads" in refusal(lake, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "FROM meters",
        "DESCRIBE meters",
        "SHOW TABLES",
        "SUMMARIZE meters",
        "EXPLAIN SELECT * FROM meters",
        "PIVOT meters ON phase",
        "SET threads = 1; SELECT 1",
        "WITH m AS (FROM meters) SELECT count(*) FROM m;",
    ],
)
def test_whatever_reads_is_allowed(lake: DuckDBPyConnection, sql: str) -> None:
    assert run_sql(lake, sql).fetchall()


def test_an_unknown_table_lists_those_there_are(lake: DuckDBPyConnection) -> None:
    assert refusal(lake, "SELECT * FROM reading").startswith("no table reading; the lake holds anomalies, audit")


@pytest.mark.parametrize(
    ("sql", "words"),
    [("SELEC 1", 'syntax error at or near "SELEC"'), ("SELECT x FROM meters", '"x" not found')],
)
def test_an_error_is_the_first_line_of_what_duckdb_says(lake: DuckDBPyConnection, sql: str, words: str) -> None:
    assert words in refusal(lake, sql)


def test_a_root_without_tables_says_what_makes_them(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no tables: `gridwatch demo`"):
        open_lake(settings_at(tmp_path))


def test_a_table_whose_log_is_broken_is_named(tmp_path: Path) -> None:
    log = tmp_path / "readings" / "_delta_log"
    log.mkdir(parents=True)
    (log / "00000000000000000000.json").write_text("no json\n")
    with pytest.raises(DataRefused, match="readings is no readable Delta table"):
        open_lake(settings_at(tmp_path))


def break_log(folder: Path) -> None:
    (folder / "_delta_log" / "00000000000000000000.json").write_text("no json\n")


def test_a_broken_table_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    create_tables(settings)
    break_log(tmp_path / "baselines")
    assert ask_lake(settings, "SELECT count(*) AS n FROM readings") == (["n"], [(0,)])
    assert ask_lake(settings, "SELECT * FROM open_incidents")[1] == []
    with pytest.raises(DataRefused, match="baselines is no readable Delta table"):
        ask_lake(settings, "SELECT * FROM baselines")
    break_log(tmp_path / "operator_actions")
    with pytest.raises(DataRefused, match="operator_actions is no readable Delta table"):
        ask_lake(settings, "SELECT * FROM open_incidents")


def test_where_no_table_can_be_read_the_first_is_named(tmp_path: Path) -> None:
    log = tmp_path / "labels" / "_delta_log"
    log.mkdir(parents=True)
    break_log(log.parent)
    with pytest.raises(DataRefused, match="labels is no readable Delta table"):
        ask_lake(settings_at(tmp_path), "SELECT 1")


def test_a_file_of_a_table_that_is_gone_is_a_damage_and_not_a_slip_of_the_query(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    create_tables(settings)
    replace_rows(as_arrow([("m-1", "f-1", "t-1", "A", 230.0, 60.0, None, None)], METERS), settings, METERS)
    for file in (tmp_path / "meters").glob("*.parquet"):
        file.unlink()
    with pytest.raises(DataRefused, match="restore the folder together with the checkpoint") as caught:
        ask_lake(settings, "SELECT * FROM meters")
    assert "\n" not in str(caught.value)
    with pytest.raises(SettingsError, match=r"No files found that match the pattern"):
        ask_lake(settings, "FROM read_csv('/nowhere.csv')")


def test_a_lake_of_an_older_version_says_what_brings_it_up_to_date(tmp_path: Path) -> None:
    settings = settings_at(tmp_path)
    create_tables(settings)
    log = tmp_path / "operator_actions" / "_delta_log" / "00000000000000000000.json"
    log.write_text(log.read_text().replace("verdict", "opinion"))
    advice = "an older version wrote this lake: run `gridwatch upgrade`"
    with pytest.raises(SettingsError, match=advice):
        ask_lake(settings, "SELECT * FROM open_incidents")
    shutil.rmtree(tmp_path / "operator_actions")
    with pytest.raises(SettingsError, match=advice):
        ask_lake(settings, "SELECT * FROM open_incidents")


def test_the_secret_survives_quotes_and_names_the_endpoint() -> None:
    store = Store(endpoint="http://127.0.0.1:9000", access_key=SecretStr("a'b"), secret_key=SecretStr("c"))
    assert secret_statement(store) == (
        "CREATE SECRET (TYPE s3, REGION 'us-east-1', URL_STYLE 'path', ENDPOINT '127.0.0.1:9000',"
        " USE_SSL 'false', KEY_ID 'a''b', SECRET 'c')"
    )


def test_the_extensions_are_of_the_installed_duckdb() -> None:
    import duckdb_extension_delta
    import duckdb_extension_httpfs

    for package in (duckdb_extension_delta, duckdb_extension_httpfs):
        folder = Path(package.__file__).parent / "extensions" / f"v{duckdb.__version__}"
        assert list(folder.glob("*.duckdb_extension"))
