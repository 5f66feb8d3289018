"""The views for common questions run in DuckDB over empty tables and over a small grid, and answer rightly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.lake_spark import view_script as spark_script
from pipelines.lake_sql import open_lake, run_sql, view_script
from pipelines.lake_views import VIEWS, views_in
from pipelines.settings import Settings
from pipelines.small_tables import arrow_schema, create_tables, replace_rows
from pipelines.tables import ANOMALIES, INCIDENTS, METER_WINDOWS, METERS, OPERATOR_ACTIONS, READINGS, TABLES, Table
from tests.factories import utc


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(made)
    return made


def fill(settings: Settings, table: Table, *rows: dict[str, Any]) -> None:
    """Rows of a table; what is not named is null."""
    replace_rows(pa.Table.from_pylist(list(rows), schema=arrow_schema(table)), settings, table)


def ask(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    with open_lake(settings) as lake:
        return run_sql(lake, sql).fetchall()


def incident(name: str, meter: str, **changes: Any) -> dict[str, Any]:
    return {
        "incident_id": name, "scope": "meter", "meter_id": meter, "feeder_id": "f-1", "family": "voltage-low",
        "anomaly_type": "undervoltage", "status": "open", "severity": "WARNING", "opened_at": utc(0),
        "last_anomaly_at": utc(60), "duration_s": 60.0, "anomalies": 3, "alerts": 1, "message": "low",
    } | changes  # fmt: skip


def said(name: str, incident_id: str, at: float, **changes: Any) -> dict[str, Any]:
    return {
        "action_id": name, "said_at": utc(at), "action": "acknowledge", "incident_id": incident_id, "scope": "meter",
        "scope_id": "m-1", "operator": "Ada",
    } | changes  # fmt: skip


@pytest.mark.parametrize("name", [view.name for view in VIEWS])
def test_every_view_runs_over_empty_tables_and_shadows_no_table(settings: Settings, name: str) -> None:
    assert name not in TABLES
    assert ask(settings, f"SELECT * FROM {name}") == []


def test_a_view_brings_those_it_is_made_of_and_nothing_else() -> None:
    assert [view.name for view in views_in("select * from FEEDER_NOW")] == ["meter_now", "feeder_now"]
    assert views_in("SELECT count(*) FROM readings") == []


def test_open_incidents_are_those_nothing_explains_the_worst_first(settings: Settings) -> None:
    fill(
        settings, INCIDENTS,
        incident("a", "m-1"), incident("b", "m-2", severity="CRITICAL"), incident("c", "m-3", status="closed"),
        incident("d", "m-4", parent_id="b"),
    )  # fmt: skip
    assert [row[0] for row in ask(settings, "SELECT meter_id FROM open_incidents")] == ["m-2", "m-1"]


def test_the_last_word_of_an_operator_counts(settings: Settings) -> None:
    fill(settings, INCIDENTS, incident("a", "m-1"), incident("b", "m-2"))
    fill(
        settings, OPERATOR_ACTIONS,
        said("1", "a", 10), said("2", "a", 20, operator="Bob"),
        said("3", "a", 30, action="feedback", verdict="confirmed"),
        said("4", "a", 40, action="feedback", verdict="false"),
    )  # fmt: skip
    sql = "SELECT incident_id, acknowledged_by, verdict FROM incident_desk ORDER BY 1"
    assert ask(settings, sql) == [("a", "Bob", "false"), ("b", None, None)]
    sql = "SELECT incidents, judged, confirmed, false_alarms, expected FROM feedback_by_rule"
    assert ask(settings, sql) == [(2, 1, 0, 1, 0)]


def test_feeders_count_silent_meters_and_open_incidents(settings: Settings) -> None:
    fill(settings, METERS, *({"meter_id": f"m-{n}", "feeder_id": "f-1", "nominal_voltage_v": 230.0} for n in (1, 2, 3)))
    window = {"window_end": utc(300), "window_date": utc(0).date(), "n": 30}
    fill(
        settings, METER_WINDOWS,
        {**window, "meter_id": "m-1", "mean_v": 230.0, "min_v": 229.0, "max_v": 231.0},
        {**window, "meter_id": "m-2", "mean_v": 200.0, "min_v": 199.0, "max_v": 201.0},
        {**window, "meter_id": "m-3", "n": 0},
        {**window, "meter_id": "m-1", "window_end": utc(0), "mean_v": 100.0, "min_v": 1.0, "max_v": 999.0},
    )  # fmt: skip
    fill(settings, INCIDENTS, incident("a", "m-2"), incident("b", "m-2", status="closed"))
    assert ask(settings, "SELECT * FROM feeder_now") == [("f-1", 3, 1, 215.0, 199.0, 231.0, 1)]
    assert ask(settings, "SELECT windows, within_10 FROM voltage_bands") == [(3, pytest.approx(1 / 3))]


def test_an_anomaly_leads_to_its_raw_readings(settings: Settings) -> None:
    def anomaly(name: str, stage: str, **changes: Any) -> dict[str, Any]:
        seen = {"meter_id": "m-1", "feeder_id": "f-1", "event_ts": utc(300), "event_date": utc(300).date()}
        return {"anomaly_id": name, "stage": stage, "anomaly_type": "undervoltage"} | seen | changes

    def reading(offset: int, meter: str, at: float) -> dict[str, Any]:
        where = {"kafka_topic": "t", "kafka_partition": 1, "kafka_offset": offset}
        return {"meter_id": meter, "event_ts": utc(at), "event_date": utc(at).date(), "is_late": False} | where

    source = {"topic": "t", "partition": 1, "offset": 3, "timestamp": 0}
    fill(
        settings, ANOMALIES,
        anomaly("of a reading", "reading", source=source), anomaly("of a window", "window", source=source),
        anomaly("of silence", "window", anomaly_type="meter_silent", source=source, event_ts=utc(900)),
        anomaly("of a feeder", "feeder", meter_id=None, event_ts=utc(250)),
    )  # fmt: skip
    fill(settings, METERS, *({"meter_id": f"m-{n}", "feeder_id": "f-1"} for n in (1, 2)), {"meter_id": "m-3"})
    window = {"window_start": utc(0), "window_end": utc(300), "window_date": utc(300).date()}
    fill(settings, METER_WINDOWS, {**window, "meter_id": "m-1"}, {**window, "meter_id": "m-2"})
    fill(
        settings, READINGS,
        reading(0, "m-1", -1), reading(1, "m-1", 0), reading(2, "m-2", 240), reading(3, "m-1", 245),
        reading(4, "m-1", 300), reading(5, "m-3", 245), reading(6, "m-2", 190),
    )  # fmt: skip
    sql = "SELECT anomaly_id, list(kafka_offset ORDER BY kafka_offset) FROM anomaly_readings GROUP BY 1"
    assert dict(ask(settings, sql)) == {
        "of a reading": [3], "of a window": [1, 3], "of silence": [3], "of a feeder": [2, 3],
    }  # fmt: skip


def test_an_anomaly_of_a_record_with_several_readings_leads_to_its_own(settings: Settings) -> None:
    source = {"topic": "t", "partition": 1, "offset": 3, "timestamp": 0}
    found = {"stage": "reading", "anomaly_type": "undervoltage", "event_date": utc(0).date(), "source": source}
    fill(settings, ANOMALIES, {**found, "anomaly_id": "0"}, {**found, "anomaly_id": "2", "source_item": 2})
    where = {"kafka_topic": "t", "kafka_partition": 1, "kafka_offset": 3, "event_date": utc(0).date()}
    fill(settings, READINGS, *({**where, "meter_id": f"m-{n}", "kafka_item": n} for n in (None, 1, 2)))
    sql = "SELECT anomaly_id, meter_id, kafka_item FROM anomaly_readings ORDER BY 1"
    assert ask(settings, sql) == [("0", "m-None", 0), ("2", "m-2", 2)]


def test_a_row_of_before_is_item_0_and_never_null(settings: Settings) -> None:
    fill(settings, READINGS, {"meter_id": "m", "event_date": utc(0).date()})
    fill(settings, ANOMALIES, {"anomaly_id": "a", "event_date": utc(0).date()})
    assert ask(settings, "SELECT kafka_item FROM readings") == [(0,)]
    assert ask(settings, "SELECT source_item FROM anomalies") == [(0,)]


def test_the_script_makes_the_same_in_duckdb_itself(settings: Settings) -> None:
    fill(settings, INCIDENTS, incident("a", "m-1"))
    statements = [line for line in view_script(settings).split(";\n") if not line.startswith(("INSTALL", "SET"))]
    with open_lake(settings) as lake:
        for statement in statements:
            lake.execute(statement)
        assert lake.execute("SELECT count(*) FROM open_incidents").fetchone() == (1,)


def test_the_script_leaves_out_what_is_not_there_and_works_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.model_validate({"lake": {"root": "lake"}})
    create_tables(settings)
    shutil.rmtree(tmp_path / "lake" / "operator_actions")
    for script in (view_script(settings), spark_script(settings)):
        first, *comment = [line for line in script.splitlines() if line.startswith("-- ")]
        assert comment == []
        assert "operator_actions, incident_desk, open_incidents, feedback_by_rule" in first
        assert "VIEW operator_actions" not in script
        assert "VIEW open_incidents" not in script
        assert "VIEW meter_now" in script
        assert f"{tmp_path}/lake/readings" in script


def test_the_program_lists_the_views(capsys: pytest.CaptureFixture[str]) -> None:
    from pipelines.cli.main import main

    assert main(["sql", "--views"]) == 0
    listed = capsys.readouterr().out
    assert all(view.name in listed and view.question in listed for view in VIEWS)
    assert main(["sql"]) == 2
