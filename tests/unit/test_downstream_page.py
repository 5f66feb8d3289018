"""The page for consumers: its code runs over real tables, its command lines are accepted, its claims on topics hold."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from examples import anomaly_consumer, incident_state
from pipelines.errors import DataRefused
from pipelines.settings import Settings
from pipelines.sinks import BatchId
from pipelines.small_tables import append_rows_once, create_tables, open_table, read_rows
from pipelines.table_features import ALLOWED, require_known_features
from pipelines.tables import ANOMALIES, INCIDENTS, TABLES
from tests.readers.__main__ import main as readers
from tests.readers.samples import comparable, rows
from tests.unit.identity.lakes import settings_in

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "downstream.md").read_text(encoding="utf-8")
MAINS = {
    "examples/anomaly_consumer.py": anomaly_consumer.main,
    "examples/incident_state.py": incident_state.main,
    "tests.readers": readers,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line, comments=True) for block in blocks("sh") for line in block.splitlines()]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    here = settings_in(tmp_path)
    create_tables(here)
    return here


def test_the_code_runs_over_the_tables(settings: Settings) -> None:
    written = rows(ANOMALIES, 0, 5)
    append_rows_once(written, settings, ANOMALIES, BatchId("g", "incidents", 0))
    severity = written["severity"][0].as_py()
    code, _ = blocks("python")
    names: dict[str, Any] = {"lake": settings.lake.root}
    exec(code.replace('"CRITICAL"', repr(severity)), names)
    assert names["incidents"].column_names == TABLES["incidents"].column_names
    assert names["worst"]["anomalies"].sum() == written["severity"].to_pylist().count(severity) > 0


@pytest.mark.parametrize("name", ["delta.enableDeletionVectors", "delta.enableChangeDataFeed"])
def test_the_way_back_takes_a_feature_off_and_keeps_rows_batches_and_id(
    settings: Settings, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written, batch = rows(INCIDENTS, 0, 5), BatchId("g", "incidents", 0)
    append_rows_once(written, settings, INCIDENTS, batch)
    was = open_table(settings, INCIDENTS)
    open_table(settings, INCIDENTS).alter.set_table_properties({name: "true"})
    with pytest.raises(DataRefused, match=r"docs/downstream\.md, table features"):
        require_known_features(settings)
    _, code = blocks("python")
    exec(code, {"DeltaTable": DeltaTable, "lake": settings.lake.root, "before": was.version()})
    assert capsys.readouterr().out.splitlines()[0] == f"{was.version() + 1} SET TBLPROPERTIES"
    require_known_features(settings)
    now = open_table(settings, INCIDENTS)
    assert (now.metadata().id, now.metadata().configuration) == (was.metadata().id, was.metadata().configuration)
    assert not append_rows_once(written, settings, INCIDENTS, batch)
    assert comparable(read_rows(settings, INCIDENTS)) == comparable(written)


def test_the_commands_are_accepted_by_what_they_start(capsys: pytest.CaptureFixture[str]) -> None:
    """Each with a word it does not know at the end: that alone must be refused."""
    assert len(COMMANDS) == 4
    for words in COMMANDS:
        name, given = (words[2], words[3:]) if words[1] == "-m" else (words[1], words[2:])
        with pytest.raises(SystemExit):
            MAINS[name]([*given, "--no-such-option"])
        assert "unrecognized arguments: --no-such-option" in capsys.readouterr().err


def test_the_page_says_how_many_tables_and_which_features_there_are() -> None:
    assert len(TABLES) == 15, "docs/downstream.md says fifteen"
    assert all(f"`{name}`" in PAGE for name in ALLOWED)


def test_the_keys_and_the_header_are_those_of_the_contract() -> None:
    contracts = [
        json.loads((ROOT / f"conf/contracts/{name}.json").read_text()) for name in ("anomaly_event", "incident")
    ]
    assert [contract["key"] for contract in contracts] == ["meterId", "incidentId"]
    assert contracts[0]["headers"] == ["anomaly-id", "recomputed"]
    assert "| key | `incidentId`" in PAGE
    assert "| header | `anomaly-id`" in PAGE


def test_recent_ids_forget_the_one_that_was_seen_longest_ago() -> None:
    recent = anomaly_consumer.RecentIds(2)
    for anomaly_id in ("a", "b", "a", "c"):
        recent.add(anomaly_id)
    assert ("a" in recent, "b" in recent, "c" in recent, len(recent)) == (True, False, True, 2)


def test_a_command_line_that_cannot_work_is_refused() -> None:
    with pytest.raises(SystemExit) as ended:
        anomaly_consumer.main(["--remember", "0"])
    assert ended.value.code == 2
