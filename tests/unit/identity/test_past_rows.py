"""What a new generation finds in real tables: where the windows read on, and the rows it takes back."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipelines.errors import SettingsError
from pipelines.identity.generation import SkippedRange
from pipelines.identity.past_rows import delete_ahead, empty_table, first_version_since
from pipelines.small_tables import count_rows, highest_value, read_rows
from pipelines.tables import METER_WINDOWS, READINGS
from tests.unit.identity.lakes import NOON, Lake, settings_in


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(settings_in(tmp_path)).make(batches=5)


@pytest.mark.parametrize(("second", "version"), [(-9, 1), (0, 1), (9, 1), (10, 2), (25, 3), (49, 5), (50, None)])
def test_the_windows_read_on_from_the_version_with_the_first_open_reading(
    lake: Lake, second: int, version: int | None
) -> None:
    """Version 0 made the table; versions 1 to 5 hold the seconds 0-9, 10-19, ... 40-49."""
    assert first_version_since(lake.settings, NOON + timedelta(seconds=second)) == version


def test_only_rows_that_are_read_again_are_taken_back(lake: Lake) -> None:
    lake.archive(5, until="readings")
    assert count_rows(lake.settings, READINGS) == 60
    assert delete_ahead(lake.settings, READINGS, {0: 50}, [0, 1]) == 10
    assert sorted(read_rows(lake.settings, READINGS)["kafka_offset"].to_pylist()) == list(range(50))
    assert delete_ahead(lake.settings, READINGS, {0: 50}, [0, 1]) == 0


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
