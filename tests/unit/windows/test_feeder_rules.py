"""Feeder rules on rows of meter_windows: one feeder a case, all cases judged in one frame."""

from __future__ import annotations

from typing import Any

import pytest

from pipelines.settings import Settings
from pipelines.windows.judge import WindowsJudge
from pipelines.windows.look_back import awake_part
from tests import frames
from tests.factories import SILENT_WINDOW, at, ms

JUDGE = WindowsJudge(Settings().detection, Settings().incidents, frames.meters([]))
Windows = list[dict[str, Any]]


def fine(count: int, **more: Any) -> Windows:
    """Meters with ordinary windows."""
    return [{"end": 0, "meter_id": f"fine{i}", "phase": "ABC"[i % 3], **more} for i in range(count)]


def low(count: int, volts: float = 190.0, **more: Any) -> Windows:
    """Meters whose tested part was low, the i-th from second i - 50 on."""
    return [
        {
            "end": 0, "meter_id": f"low{i}", "phase": "ABC"[i % 3], "tested_min_v": volts, "tested_out_ts": at(i - 50),
            **more,
        }
        for i in range(count)
    ]  # fmt: skip


def silent(count: int, *, since: int = -310, apart: int = 0) -> Windows:
    """Silent meters, the i-th `apart` seconds earlier than the one before."""
    return [
        {**SILENT_WINDOW, "end": 0, "meter_id": f"gone{i}", "phase": "ABC"[i % 3], "last": since - i * apart}
        for i in range(count)
    ]


def dead(count: int, **more: Any) -> Windows:
    """Meters that read 0 V throughout their window."""
    nothing = {"base_n": 0, "base_mean_v": None, "tested_n": 0, "max_v": 0.4, "mean_v": 0.0}
    return [{**w, "meter_id": f"dead{i}", **nothing, **more} for i, w in enumerate(low(count, volts=0.0))]


CASES: list[tuple[str, Windows, list[tuple[str, str | None, float]]]] = [
    # name, windows of the feeder, (rule, phase, event second)
    ("nothing out of the ordinary", fine(20), []),
    ("3 of 10 are the feeder's", [*fine(7), *low(3)], [("feeder_undervoltage", None, -48)]),
    ("2 of 10 are not, though 20 %", [*fine(8), *low(2)], []),
    ("a fifth of 20", [*fine(16), *low(4)], [("feeder_undervoltage", None, -47)]),
    ("less than a fifth of 20", [*fine(17), *low(3)], []),
    ("exactly 0.90 Un is in the band", [*fine(5), *low(5, volts=207.0)], []),
    (
        "high",
        [*fine(5), *[{**w, "tested_min_v": 230.0, "tested_max_v": 260.0} for w in low(5)]],
        [("feeder_overvoltage", None, -48)],
    ),
    ("dark", [*fine(5), *low(5, volts=2.0)], [("feeder_outage", None, -48)]),
    ("dark and low is an outage", [*fine(5), *low(5, volts=2.0), *low(0)], [("feeder_outage", None, -48)]),
    ("silent since the same moment", [*fine(7), *silent(3)], [("feeder_outage", None, 0)]),
    ("silent since different moments", [*fine(7), *silent(3, apart=90)], []),
    ("dead for longer, and one more", [*fine(6), *dead(3), *low(1, volts=2.0)], []),
    ("dark again within its window", [*fine(5), *low(5, volts=2.0, base_n=4, tested_n=0)],
     [("feeder_outage", None, -48)]),
    ("dark at the first reading ever", [*fine(5), *low(5, volts=2.0, base_n=0, tested_n=0, plausible_n=5)],
     [("feeder_outage", None, -48)]),
    ("dead for longer, and two low", [*fine(6), *dead(2), *low(2)], []),
    ("the dead do not make the others fewer", [*fine(12), *dead(20), *low(3)], [("feeder_undervoltage", None, -48)]),
    ("an outage that lasts", [*fine(5), *dead(5)], [("INFO", None, -30)]),
    ("a phase goes dark on a feeder with dead meters",
     [*fine(20, phase="A"), *dead(8, phase="A"), *low(4, volts=2.0, phase="B")],
     [("feeder_outage", "B", -48)]),
    ("not silent for long enough", [*fine(7), *silent(3, since=-290)], []),
    ("silent and interrupted add up", [*fine(8), *silent(3)[:3]], [("feeder_outage", None, 0)]),
    (
        "a phase of which a fifth is low, not of the feeder",
        [*fine(20, phase="A"), *low(4, phase="B"), *fine(0)],
        [("feeder_undervoltage", "B", -48)],
    ),
    ("the whole feeder covers its phases", [*fine(2, phase="A"), *low(6)], [("feeder_undervoltage", None, -48)]),
    ("a feeder of one meter", low(1), []),
    ("a feeder of two meters", low(2), []),
    ("meters of different nominal voltage", [*fine(3), *low(3, volts=105.0, nominal_voltage_v=120.0)],
     [("feeder_undervoltage", None, -48)]),
]  # fmt: skip


def said_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    windows = frames.windows(rows).with_columns(fleet_awake=awake_part(Settings().detection))
    return JUDGE.feeder_events(windows)


@pytest.fixture(scope="module")
def events() -> dict[str, list[dict[str, Any]]]:
    """What is said of each case's feeder."""
    rows = [
        {**w, "meter_id": f"{i}/{w['meter_id']}", "feeder_id": f"f{i}"}
        for i, (_, windows, _) in enumerate(CASES)
        for w in windows
    ]
    nobody = [{**w, "feeder_id": None, "meter_id": f"no/{w['meter_id']}"} for w in low(6)]
    said = said_of([*rows, *nobody])
    assert all(event["feederId"] for event in said)
    return {name: [e for e in said if e["feederId"] == f"f{i}"] for i, (name, *_) in enumerate(CASES)}


def told(event: dict[str, Any]) -> tuple[str, float]:
    """Type (or INFO) and second."""
    kind = "INFO" if event["severity"] == "INFO" else event["anomalyType"]
    return kind, (event["eventTime"] - ms(0)) / 1000


@pytest.mark.parametrize("name", [name for name, *_ in CASES])
def test_feeder_rule(events: dict[str, list[dict[str, Any]]], name: str) -> None:
    expected = next(said for case, _, said in CASES if case == name)
    found = events[name]
    assert sorted(map(told, found)) == sorted((kind, second) for kind, _, second in expected)
    phases = [phase for _, phase, _ in expected if phase]
    assert [event["message"].partition(":")[0][-1] for event in found if "phase" in event["message"]] == phases


def test_feeder_finding_counts_in_words(events: dict[str, list[dict[str, Any]]]) -> None:
    (said,) = events["3 of 10 are the feeder's"]
    assert (said["severity"], said["observed"], said["thresholdUsed"]) == ("CRITICAL", 3.0, 3.0)
    assert "3 of 10 reporting meters are below 0.90 Un at once" in said["message"]


def test_phases_of_one_feeder_have_ids_of_their_own() -> None:
    others = [{**w, "meter_id": f"x{w['meter_id']}"} for w in low(4, phase="C")]
    found = said_of([*fine(40, phase="A"), *low(4, phase="B"), *others])
    assert [(e["stage"], e["meterId"], e["feederId"], e["source"]) for e in found] == [("feeder", None, "f1", None)] * 2
    assert len({event["anomalyId"] for event in found}) == 2
