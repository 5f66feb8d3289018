"""What retention has removed is not taken for what never was."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from pipelines.errors import DataRefused
from pipelines.offline.recompute.retention import refuse_expired, usable_since
from pipelines.offline.recompute.spans import Span
from pipelines.settings import Settings
from tests.factories import settings, utc

TODAY = date(2026, 3, 11)
DAY = 86_400


def kept_for(days: int | None) -> Settings:
    return settings(lake={"retention_days": days}, detection={"cadence_s": 60})


def span(day: float) -> Span:
    """An hour about noon, so many days after 2026-03-01."""
    return Span(utc(day * DAY), utc(day * DAY) + timedelta(hours=1))


def test_any_span_of_a_day_that_has_expired_is_refused_and_the_way_out_named() -> None:
    """A late reading makes the partition of its day anew, so the oldest day that is there says nothing."""
    with pytest.raises(DataRefused, match=r"readings of 2026-03-01, and lake.retention_days = 8.*--from of 2026-03-04"):
        refuse_expired(kept_for(8), [span(0), span(9)], [], today=TODAY)


def test_the_window_before_a_span_needs_its_readings_too() -> None:
    midnight = Span(utc(12 * 3600 + 180), utc(12 * 3600 + 360))
    before = [utc(12 * 3600)]
    refuse_expired(kept_for(10), [midnight], before, today=TODAY)
    with pytest.raises(DataRefused, match="readings of 2026-03-01"):
        refuse_expired(kept_for(9), [midnight], before, today=TODAY)


@pytest.mark.parametrize("days", [10, None])
def test_what_is_kept_is_not_refused(days: int | None) -> None:
    refuse_expired(kept_for(days), [span(0), span(9)], [], today=TODAY)


@pytest.mark.parametrize(
    ("first_end_s", "usable_s"),
    [(0, 45 * 60), (180, 0), (9 * 3600, 0)],
    ids=["cut by retention", "a lake that began at midnight", "a lake that began at nine"],
)
def test_behind_a_cut_as_much_is_left_out_as_rules_look_back_and_a_window_holds(
    first_end_s: float, usable_s: float
) -> None:
    """
    end      0:00  0:03 ...           0:30          0:45
    cut      [== rows, their history is gone ==]    first reading whose windows have all of theirs
    """
    midnight = utc(-12 * 3600)
    found = usable_since(midnight + timedelta(seconds=first_end_s), kept_for(None).detection)
    assert found == midnight + timedelta(seconds=usable_s)
