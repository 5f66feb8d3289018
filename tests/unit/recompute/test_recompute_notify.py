"""What --notify sends: all that runs of the range have noted, and what a run that died has."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.offline.recompute.write import RUN, to_be_sent
from pipelines.settings import Settings
from pipelines.small_tables import append_rows, arrow_schema, create_tables
from pipelines.tables import ANOMALIES, METER_WINDOWS, RECOMPUTATIONS
from tests.factories import utc


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = Settings.model_validate({"lake": {"root": str(tmp_path / "lake")}})
    create_tables(found, [RECOMPUTATIONS])
    return found


def note(settings: Settings, run: str, since: float, until: float, *, ended: bool) -> None:
    """A run that has changed one anomaly and one window, named like itself."""
    said = {"run_id": run, "at": utc(0), "since": utc(since), "until": utc(until), "event_ts": utc(since)}
    names = [ANOMALIES.name, METER_WINDOWS.name, *([RUN] if ended else [])]
    rows = [{**said, "table_name": name, "key": run} for name in names]
    append_rows(pa.Table.from_pylist(rows, schema=arrow_schema(RECOMPUTATIONS)), settings, RECOMPUTATIONS)


def test_a_range_sends_its_own_runs_and_what_died_over_it(settings: Settings) -> None:
    """
    range            [========)
    sent    inside    [===)              ended, or died
            wide    [============x       died: what it wrote no later run finds changed
    not     wider   [============)       ended: its own --notify sends it
            before  [=x                  died, and has nothing to do with the range
    """
    note(settings, "inside", 10, 50, ended=True)
    note(settings, "inside, died", 0, 100, ended=False)
    note(settings, "wide, died", -50, 150, ended=False)
    note(settings, "wider", -50, 150, ended=True)
    note(settings, "before, died", -50, 0, ended=False)
    found = to_be_sent(settings, utc(0), utc(100)).to_pylist()
    assert {row["key"] for row in found if row["table_name"] != RUN} == {"inside", "inside, died", "wide, died"}
