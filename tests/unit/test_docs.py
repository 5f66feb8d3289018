"""The generated pages are what the program says, and a stale one is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.cli import docs
from pipelines.cli.docs_cli import help_texts
from pipelines.cli.docs_data import data_dictionary_page
from pipelines.cli.docs_settings import PUBLISHED_NAMES, configuration_page
from pipelines.contract import message, rejection_reasons
from pipelines.settings_load import environment_name, setting_fields
from pipelines.tables import TABLES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_pages_in_docs_are_up_to_date() -> None:
    stale = [path.name for path in docs.stale_pages(DOCS)]
    assert not stale, f"run `{docs.COMMAND}`"


def test_a_stale_page_is_named_with_the_command_that_refreshes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    docs.write_pages(tmp_path)
    assert docs.main(["--check", "--dir", str(tmp_path)]) == 0
    with (tmp_path / "configuration.md").open("a") as page:
        page.write("by hand\n")
    assert docs.main(["--check", "--dir", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert "configuration.md" in said
    assert docs.COMMAND in said


def test_every_setting_and_its_variable_are_in_the_configuration() -> None:
    page = configuration_page()
    assert all(f"`{name}`" in page and f"`{environment_name(name)}`" in page for name, _ in setting_fields())


def test_the_published_names_lead_to_settings_that_exist() -> None:
    names = {name for name, _ in setting_fields()}
    assert set(PUBLISHED_NAMES) == {"ANOMALY_THRESHOLD", "WINDOW_SIZE"}
    assert all(name in names for name, _ in PUBLISHED_NAMES.values())


def test_every_table_column_field_and_reason_is_in_the_data_dictionary() -> None:
    page = data_dictionary_page()
    for table in TABLES.values():
        assert f"### {table.name}\n" in page
        assert all(f"`{column.name}`" in page for column in table.columns)
    for name in ("sensor_reading", "anomaly_event", "window_tick", "incident", "dead_letter"):
        assert f"### {message(name).name}\n" in page
        assert all(f"`{field.name}`" in page for field in message(name).fields)
    assert all(f"`{reason}`" in page for reason in rejection_reasons())


def test_the_help_texts_are_the_same_whatever_the_width_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    narrow = list(help_texts())
    monkeypatch.setenv("COLUMNS", "200")
    assert list(help_texts()) == narrow


def test_no_page_holds_a_path_of_the_machine_it_was_made_on() -> None:
    here = (str(Path.home()), str(DOCS.parent))
    assert not [page for page in DOCS.glob("*.md") for path in here if path in page.read_text() and path != "/root"]
