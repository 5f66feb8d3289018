"""A lake that an earlier generation has written, without Spark: what a fill of panes begins with."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pipelines.identity.record import Start
from pipelines.jobs.context import Run
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, as_arrow, create_tables, read_rows
from pipelines.tables import AUDIT, PANES, READINGS, Table

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GENERATION = "new"


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def append(settings: Settings, table: Table, rows: list[dict[str, Any]], number: int) -> None:
    tuples = [tuple(row.get(name) for name in table.column_names) for row in rows]
    append_rows_once(as_arrow(tuples, table), settings, table, BatchId("old", "archive", number))


def reading(second: float, **more: Any) -> dict[str, Any]:
    row = {
        "meter_id": "m", "event_ts": at(second), "voltage_v": 231.0, "current_a": 5.0, "temperature_c": 20.0,
        "is_plausible": True, "is_in_band": True, "is_late": False, "is_resent": False,
        "event_date": at(second).date(),
    }  # fmt: skip
    return row | more


def audited(highest_s: float, aligned_s: float | None) -> dict[str, Any]:
    aligned = None if aligned_s is None else at(aligned_s)
    gaps = None if aligned_s is None else 0
    return {
        "generation": "old",
        "kafka_partition": 0,
        "max_event_ts": at(highest_s),
        "gaps": gaps,
        "aligned_ts": aligned,
    }


def older_lake(settings: Settings) -> Settings:
    """
    second    0    10   20 ...  590    readings of m, one every 10 s; one late at 5, one re-sent at 15
    aligned                   480      audit says so: the last two minutes were held back
    """
    create_tables(settings)
    rows = [reading(second) for second in range(0, 600, 10)]
    odd = [reading(5, is_late=True), reading(15, is_resent=True)]
    append(settings, READINGS, rows[:30], 0)
    append(settings, READINGS, [*odd, *rows[30:]], 1)
    append(settings, AUDIT, [audited(290, 290), audited(590, 480)], 0)
    return settings


def run_of(settings: Settings, **start: Any) -> Run:
    """A run of the next generation, without a session."""
    folder = "generation-2/{}".format
    return Run(None, settings, GENERATION, lambda line: None, Start(**start), folder)  # type: ignore[arg-type]


def filled(settings: Settings) -> dict[datetime, int]:
    """Readings by start of the pane in the table; a pane that occurs twice is an error."""
    rows = read_rows(settings, PANES, columns=["generation", "batch_id", "pane_start", "n"]).to_pylist()
    assert {(row["generation"], row["batch_id"]) for row in rows} <= {(GENERATION, -1)}
    assert len({row["pane_start"] for row in rows}) == len(rows)
    return {row["pane_start"]: row["n"] for row in rows}


def minutes(*numbers: int) -> dict[datetime, int]:
    """Whole panes of six readings."""
    return {at(60 * number): 6 for number in numbers}
