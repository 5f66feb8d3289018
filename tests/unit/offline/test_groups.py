"""What groups of feeders need to know of each other: the window ends of the fleet, and how much of it is awake."""

from __future__ import annotations

import polars as pl
import pytest

from pipelines.lake.frames import empty
from pipelines.offline.detection import READING
from pipelines.offline.groups import COUNTS, Group, fleet_awake, group_of, slides_of, window_ends
from pipelines.tables import METERS
from tests import frames
from tests.factories import at, ms, settings, utc

SETTINGS = settings(detection={"cadence_s": 60, "window": "5 min", "slide": "1 min", "min_history": 3})
D = SETTINGS.detection


def readings_of(minutes_by_meter: dict[str, list[int]]) -> pl.DataFrame:
    rows = [
        {"meter_id": m, "event_ts": at(60.0 * one), "voltage_v": 230.0}
        for m, some in minutes_by_meter.items()
        for one in some
    ]
    made = frames.readings(rows)
    return made.select(
        *((pl.col(n) if n in made.columns else pl.lit(None)).cast(k).alias(n) for n, k in READING.items())
    )


def ends_of(*minutes: int) -> pl.DataFrame:
    return window_ends([ms(60 * minute) for minute in minutes], detection=D)


def test_window_ends_are_those_that_a_later_reading_has_closed() -> None:
    """A reading of minute 0 is in the windows that end at minutes 1 to 5; of minute 3 the window to 4 is closed."""
    assert ends_of(0)["window_end"].to_list() == [utc(60)]
    assert ends_of(0, 3)["window_end"].to_list() == [utc(60 * end) for end in (1, 2, 3, 4)]
    assert ends_of(0, 9)["window_end"].to_list() == [utc(60 * end) for end in (1, 2, 3, 4, 5, 10)]
    assert ends_of().height == 0


def test_slides_are_those_of_countable_readings() -> None:
    rows = readings_of({"m1": [0, 4]}).with_columns(is_late=pl.col("event_ts") == utc(240))
    assert slides_of(rows, detection=D).to_list() == [ms(0)]


@pytest.mark.parametrize("groups", [[["m1", "m2", "m3"]], [["m1"], ["m2", "m3"]], [["m1"], ["m2"], ["m3"]]])
def test_counts_of_groups_add_up_to_those_of_the_fleet(groups: list[list[str]]) -> None:
    """m1 falls silent after minute 2 and is asleep 150 s later; m3 is first seen in minute 6."""
    minutes = {"m1": [0, 1, 2], "m2": list(range(11)), "m3": list(range(6, 11))}
    ends = ends_of(*range(11))
    group = Group(D, SETTINGS.incidents, empty(METERS), None)
    counts = [group.awake(readings_of({m: minutes[m] for m in some}), ends) for some in groups]
    fleet = fleet_awake(ends, pl.concat(counts))
    share = {(end - utc(0)).total_seconds() / 60: awake for end, awake in fleet.rows()}
    assert [share[end] for end in (1, 4, 5, 7, 11)] == [1.0, 1.0, 0.5, pytest.approx(2 / 3), pytest.approx(2 / 3)]


def test_a_group_without_a_reading_counts_nothing() -> None:
    group = Group(D, SETTINGS.incidents, empty(METERS), None)
    assert group.awake(readings_of({}), ends_of(0)).equals(pl.DataFrame(schema=COUNTS))


def test_meters_of_one_feeder_are_in_one_group_and_those_without_are_spread() -> None:
    meters = frames.meters([{"meter_id": f"m{i}", "feeder_id": "f1" if i < 50 else None} for i in range(100)])
    ids = pl.Series([f"m{i}" for i in range(110)])
    found = group_of(ids, meters, 8)
    assert found.max() < 8
    assert found[:50].n_unique() == 1
    assert found[50:].n_unique() == 8
