"""Which reading of several counts, and which window ends a late or corrected one may change."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from pipelines.offline.recompute.corrections import CORRECTED, LATE, affected_ends, settle_readings
from pipelines.settings import Detection
from tests import frames
from tests.factories import at, ms

DETECTION = Detection(cadence_s=60)
MINUTE, HOUR = 60, 3600
Rows = list[dict[str, Any]]


def counted(*minutes: int) -> Rows:
    """Rows of meter_windows, 15 min every 3 min, of readings at these minutes past noon; empty windows have no row."""
    rows: Rows = []
    for end in range(3, max(minutes) + 16, 3):
        inside = [minute for minute in minutes if end - 15 <= minute < end]
        if inside:
            rows.append({"end": end * MINUTE, "last": max(inside) * MINUTE, "n": len(inside)})
    return rows


def test_a_late_reading_changes_its_silence_up_to_the_meters_next_reading_and_what_looks_back_on_it() -> None:
    """
    minute   -20 ... 0   1 ... 5                     300
    m1       counted     late      silence           counted: its row ends at 303, rules look back on it for 30
    """
    late = [{"event_ts": at(minute * MINUTE)} for minute in range(1, 6)]
    corrections = frames.readings(late).with_columns(correction=pl.lit(LATE))
    windows = frames.windows(counted(*range(-20, 1), 300), window_s=900, placed=False)
    assert affected_ends(corrections, windows, detection=DETECTION) == [
        (ms(3 * MINUTE), ms(5 * HOUR + 33 * MINUTE)),
        (ms(6 * MINUTE), ms(5 * HOUR + 33 * MINUTE)),
    ]


def sent(volts: float, offset: int, came_s: float, *, partition: int = 0, flags: str = "") -> dict[str, Any]:
    """A record of m1 at noon; late, re-sent, both or counted."""
    return {
        "event_ts": at(0), "voltage_v": float(volts), "kafka_partition": partition, "kafka_offset": offset,
        "kafka_ts": at(came_s), "is_late": "late" in flags, "is_resent": "again" in flags,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([sent(230, 0, 0), sent(230, 1, 9, flags="again")], (230, 0, None)),
        ([sent(230, 0, 0), sent(280, 1, 9, flags="again")], (280, 1, CORRECTED)),
        ([sent(230, 0, 0, flags="late"), sent(280, 1, 9, flags="late again")], (280, 1, LATE)),
        ([sent(230, 0, 0), sent(280, 1, 8, flags="again"), sent(230, 2, 9, flags="again")], (230, 0, CORRECTED)),
        ([sent(230, 0, 0), sent(280, 1, 9, flags="again"), sent(190, 2, 5, flags="again")], (190, 2, CORRECTED)),
        ([sent(230, 7, 0), sent(280, 1, 9, partition=1, flags="again")], (280, 1, CORRECTED)),
        ([sent(230, 7, 9), sent(280, 1, 0, partition=1, flags="again")], (230, 7, CORRECTED)),
        (
            [sent(230, 0, 9), sent(280, 1, 5, flags="again"), sent(190, 3, 7, partition=1, flags="again")],
            (280, 1, CORRECTED),
        ),
    ],
    ids=[
        "repeated", "corrected", "late and corrected", "there and back", "a clock that goes back",
        "another partition", "another partition, earlier", "another partition, and a clock that goes back",
    ],
)  # fmt: skip
def test_of_several_records_the_last_one_counts_with_the_coordinates_of_the_first_that_says_so(
    records: Rows, expected: tuple[float, int, str | None]
) -> None:
    found = settle_readings(frames.readings(records)).to_dicts()
    assert [(row["voltage_v"], row["kafka_offset"], row["correction"]) for row in found] == [expected]
    assert not found[0]["is_late"]
    assert not found[0]["is_resent"]
