"""What a new generation finds in real tables: the rows it takes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.errors import SettingsError
from pipelines.identity.generation import SkippedRange
from pipelines.identity.past_rows import count_ahead, delete_ahead, empty_table
from pipelines.small_tables import count_rows, highest_value, read_rows
from pipelines.tables import METER_WINDOWS, READINGS
from tests.unit.identity.lakes import NOON, Lake, settings_in


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(settings_in(tmp_path)).make(batches=5)


def test_only_rows_that_are_read_again_are_taken_back(lake: Lake) -> None:
    lake.archive(5, until="readings")
    assert count_rows(lake.settings, READINGS) == 60
    assert count_ahead(lake.settings, READINGS, {0: 50}, [0, 1]) == 10
    delete_ahead(lake.settings, READINGS, {0: 50}, [0, 1])
    assert sorted(read_rows(lake.settings, READINGS)["kafka_offset"].to_pylist()) == list(range(50))
    assert count_ahead(lake.settings, READINGS, {0: 50}, [0, 1]) == 0


def test_an_emptied_table_keeps_its_columns(lake: Lake) -> None:
    lake.window(NOON)
    assert highest_value(lake.settings, METER_WINDOWS, "window_end") == NOON
    empty_table(lake.settings, METER_WINDOWS)
    assert highest_value(lake.settings, METER_WINDOWS, "window_end") is None
    assert read_rows(lake.settings, METER_WINDOWS).num_rows == 0
    lake.window(NOON, number=1)
    assert count_rows(lake.settings, METER_WINDOWS) == 1


@pytest.mark.parametrize("text", ["0", "0:5", "0:5-", "a:1-2", "0:9-5", "0:-1-5", ""])
def test_a_range_has_one_form(text: str) -> None:
    with pytest.raises(SettingsError, match="partition:first-last"):
        SkippedRange.parse(text)
