"""Only what late and corrected readings concern is changed, whatever else a batch of today would say otherwise."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.offline.recompute.concern import Concern, concern_of, heard
from pipelines.offline.recompute.corrections import CORRECTED, LATE
from pipelines.offline.recompute.window_changes import window_changes
from pipelines.settings import Detection
from tests import frames
from tests.factories import utc

DETECTION = Detection(cadence_s=60, min_reporting=0.5)
FEEDERS = {"m1": "f1", "m2": "f1", "m3": "f2"}
Rows = list[dict[str, Any]]


def windows(*ends: float, **last: float) -> pl.DataFrame:
    """Rows of all meters at these ends, the latest reading of each just before, or where it is said."""
    rows = [{"meter_id": m, "end": end, "last": last.get(m, end - 60)} for end in ends for m in FEEDERS]
    return frames.windows(rows, window_s=900, placed=False)


def concern(correction: str, before: pl.DataFrame, after: pl.DataFrame) -> tuple[Concern, pl.DataFrame]:
    """Of one reading of m1, with the changed rows of the only piece of its span."""
    meters = frames.meters([{"meter_id": m, "feeder_id": f} for m, f in FEEDERS.items()])
    found = concern_of(pl.DataFrame({"meter_id": ["m1"], "correction": [correction]}), meters)
    was, now = (heard(rows, DETECTION) for rows in (before, after))
    return found, found.windows(window_changes(before, after), was, now)


def anomalies() -> Rows:
    rows: Rows = [
        {"anomaly_id": f"{m} {kind}", "t": 0, "meter_id": m, "feeder_id": f, "anomaly_type": kind, "stage": "window"}
        for m, f in FEEDERS.items()
        for kind in ("noisy_sensor", "meter_silent")
    ]
    outages = {"t": 0, "meter_id": None, "anomaly_type": "feeder_outage", "stage": "feeder"}
    rows += [{"anomaly_id": f, "feeder_id": f, **outages} for f in ("f1", "f2")]
    return frames.anomalies(rows).to_dicts()


OWN = {"m1 noisy_sensor", "m1 meter_silent", "m2 noisy_sensor", "m2 meter_silent", "f1"}


def concerned(by: Concern) -> set[str]:
    return {row["anomaly_id"] for row in by.anomalies(anomalies())}


def test_a_correction_changes_its_meter_and_the_feeder_and_no_one_else() -> None:
    stored = windows(180, 360)
    found, changed = concern(CORRECTED, stored, stored.with_columns(residual_v=1.0))
    assert set(changed["meter_id"]) == {"m1", "m2"}
    assert concerned(found) == OWN


@pytest.mark.parametrize(("correction", "others"), [(LATE, {"m3 meter_silent", "f2"}), (CORRECTED, set())])
def test_late_readings_decide_on_the_silence_of_others_where_they_wake_the_fleet(
    correction: str, others: set[str]
) -> None:
    """
    last reading of   m1            m2    m3
    stored            -1 h          -1 h  now     a third reports: nobody is called silent
    with late ones    a minute ago  -1 h  now     two thirds do: a silence is a meter's own
    """
    found, _ = concern(correction, windows(180, m1=-3600, m2=-3600), windows(180, m2=-3600))
    assert concerned(found) == OWN | others


def test_late_readings_that_wake_nobody_change_no_silence_of_others() -> None:
    found, _ = concern(LATE, windows(180, m1=-3600), windows(180))
    assert concerned(found) == OWN


def test_a_window_end_that_only_late_readings_make_has_rows_of_the_whole_fleet() -> None:
    _, changed = concern(LATE, windows(180), windows(180, 360, m2=0, m3=0))
    assert changed.filter(pl.col("meter_id") == "m3")["window_end"].to_list() == [utc(360)]
