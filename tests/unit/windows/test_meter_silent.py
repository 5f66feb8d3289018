"""meter_silent over whole timelines: (window end, last reading) -> (event second, severity, stated silence)."""

from __future__ import annotations

import itertools

import pytest

from pipelines.settings import Settings
from pipelines.windows.judge import Found
from tests import frames
from tests.factories import SILENT_WINDOW, ms
from tests.unit.windows.judged import findings_in

Ends = list[tuple[int, float]]
BACK_AT_430: Ends = [*((end, 0) for end in range(60, 480, 60)), (480, 430), (540, 530)]
SILENCES: dict[str, tuple[Ends, list[tuple[float, str, float]]]] = {
    "a warning at 5 min, an error at 30, a heartbeat every 30 more, nothing in between": (
        [(end, 0) for end in range(0, 5460, 60)],
        [(300, "WARNING", 300), (1800, "ERROR", 1800), (3600, "ERROR", 3600), (5400, "ERROR", 5400)],
    ),
    "299 s are no silence": ([(240, 0), (299, 0)], []),
    "300 s are": ([(240, 0), (300, 0)], [(300, "WARNING", 300)]),
    "back is an INFO at the window end that sees it": (
        BACK_AT_430,
        [(300, "WARNING", 300), (480, "INFO", 420)],
    ),
    "a short gap is no silence": ([(60, 0), (120, 0), (180, 0), (240, 0), (300, 250), (360, 350)], []),
    "a second silence is reported again": (
        [*BACK_AT_430, *((end, 530) for end in range(600, 1000, 60))],
        [(300, "WARNING", 300), (480, "INFO", 420), (830, "WARNING", 300)],
    ),
    "after a gap of window ends only the highest limit is reported": (
        [(240, 0), (1860, 0), (1920, 0)],
        [(1800, "ERROR", 1800)],
    ),
    "the first window end ever reports a meter that is silent already": ([(360, 0)], [(300, "WARNING", 300)]),
    "a meter that reports every 10 min is silent once": (
        [(end, end // 600 * 600) for end in range(0, 7200, 60)],
        [(300, "WARNING", 300), (600, "INFO", 540)],
    ),
    "and stops": (
        [(end, min(end // 600, 5) * 600) for end in range(0, 5400, 60)],
        [(300, "WARNING", 300), (600, "INFO", 540), (4800, "ERROR", 1800)],
    ),
    "one of two silences shortly after each other is no cadence": (
        [*BACK_AT_430, (600, 590), *((end, 590) for end in range(660, 960, 60))],
        [(300, "WARNING", 300), (480, "INFO", 420), (890, "WARNING", 300)],
    ),
    "a silence of 40 min is no cadence": (
        [*((e, 0) for e in range(0, 2460, 60)), (2460, 2455), *((e, 2455) for e in range(2520, 4500, 60))],
        [
            (300, "WARNING", 300),
            (1800, "ERROR", 1800),
            (2460, "INFO", 2400),
            (2755, "WARNING", 300),
            (4255, "ERROR", 1800),
        ],
    ),
    "back after more than 30 min": ([(2000, 0), (2060, 2050)], [(1800, "ERROR", 1800), (2060, "INFO", 2000)]),
}


Said = list[tuple[float, str, float]]


def silence(now: Ends, before: Ends) -> Said:
    """What meter_silent says of a meter."""
    rows, history = (
        [{**SILENT_WINDOW, "meter_id": "m", "end": e, "last": t} for e, t in ends] for ends in (now, before)
    )
    # The rest of the fleet reports: silence of all would say nothing of one.
    rows += [{"meter_id": f"awake{i}", "end": e, "last": e - 10} for e, _ in now for i in range(3)]
    found = findings_in(frames.windows(rows), history, Settings())
    assert {one.finding.anomaly_type for one in found} <= {"meter_silent"}
    return sorted(map(said, found))


def said(found: Found) -> tuple[float, str, float]:
    """Event second, severity and stated silence."""
    assert found.finding.observed is not None
    return (found.event_ms - ms(0)) / 1000, found.finding.severity, found.finding.observed


@pytest.mark.parametrize("name", list(SILENCES))
def test_meter_silent(name: str) -> None:
    ends, expected = SILENCES[name]
    assert silence(ends, []) == expected


def test_a_slow_meters_profile_says_how_long_it_may_be_silent() -> None:
    """Of 600 s, so silent after 3000; 12 s at a fleet's 10 are no other cadence."""
    rows = [
        {**SILENT_WINDOW, "meter_id": meter, "end": 2400, "last": 0, "cadence_s": cadence_s}
        for meter, cadence_s in {"slow": 600.0, "ordinary": 12.0, "new": None}.items()
    ]
    rows += [{**row, "meter_id": "slower", "end": 3000} for row in rows[:1]]
    rows += [{"meter_id": f"awake{i}", "end": end, "last": end - 10} for end in (2400, 3000) for i in range(3)]
    found = findings_in(frames.windows(rows), [], Settings())
    assert {one.meter_id: (one.finding.severity, one.finding.threshold_used) for one in found} == {
        "ordinary": ("ERROR", 300.0), "new": ("ERROR", 300.0), "slower": ("WARNING", 3000.0),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(SILENCES))
def test_window_ends_in_several_calls_say_the_same_as_in_one(name: str) -> None:
    """Cut before, between and after the ends at which something is said: what the table held is history."""
    ends, expected = SILENCES[name]
    parts: Said = []
    for since, until in itertools.pairwise((0, 300, 470, 10_000)):
        parts += silence([e for e in ends if since <= e[0] < until], [e for e in ends if e[0] < since])
    assert parts == expected
