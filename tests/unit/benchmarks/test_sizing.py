"""The model of what a fleet costs: it finds what made-up points are made of, grows with the fleet, and says how far off
it is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from benchmarks.__main__ import main
from benchmarks.sizing import HELD_OUT, QUANTITIES, CannotFit, Point, compared, fit, fit_all, modelled
from benchmarks.sizing_table import Assumed, Fleet, Sizes, as_markdown, markdown, most_meters, size, undivided

LARGEST = 1_000_000
CPU = {"once": 40.0, "batch": 3.0, "million_readings": 25.0, "million_windows": 90.0}


def point(meters: int, cadence_s: int = 60, *, ends: int = 4, archive_batches: int = 7) -> dict[str, Any]:
    """A point as the benchmark reports it; its pipeline CPU is made of `CPU`."""
    readings = meters * ends * (3 if cadence_s == 60 else 6)
    batches = {"archive": {"n": archive_batches}, "windows": {"n": ends}}
    million, windows, ten_thousand = readings / 1e6, meters * ends / 1e6, meters / 1e4
    cpu = 40 + 3 * (archive_batches + ends) + 25 * million + 90 * windows
    table = {"all_files": 10, "bytes": 1}
    return {
        "meters": meters, "cadence_s": cadence_s, "readings": readings, "window_ends": ends, "stopped": None,
        "batches": batches,
        "cpu_s": {"jvm": cpu - 2 - 4 * million, "python": 2 + 4 * million, "broker": 1 + 9 * million},
        "generator": {"cpu_s": 2 + 50 * million}, "kafka_bytes": 150 * readings, "state_rows": 6 * meters,
        "state_memory_bytes": 2e7 + 700 * meters, "checkpoint_bytes": 1e6 + 1300 * meters,
        "heap_mib": 300 + ten_thousand,
        "peak_rss_mib": {"python": 200 + ten_thousand + 300 * million / archive_batches},
        "sink_s": {
            "delta readings": archive_batches * 0.3 + 2 * million, "delta meter_windows": ends * 0.5 + 5 * windows,
        },
        "tables": {
            "readings": table | {"bytes": 20 * readings}, "meter_windows": table | {"bytes": 50 * meters * ends},
        },
    }  # fmt: skip


POINTS = [
    point(1_000, ends=10, archive_batches=10),
    point(10_000, ends=10, archive_batches=12),
    point(10_000, 10, ends=8, archive_batches=9),
    point(100_000),
    point(1_000_000, ends=2, archive_batches=8),
    point(30_000, ends=5),
]


def test_known_coefficients_are_found_again() -> None:
    assert fit(QUANTITIES["pipeline_cpu"], POINTS) == pytest.approx(CPU, rel=1e-6)
    found = fit_all(POINTS)
    assert found["kafka"]["million_readings"] == pytest.approx(150)
    assert found["state"]["million_meters"] == pytest.approx(6)
    assert found["readings_write"] == pytest.approx({"archive_batch": 0.3, "million_readings": 2})


def test_noise_of_five_percent_moves_what_the_model_says_by_little() -> None:
    draws = random.Random(7)
    noisy = [one | {"kafka_bytes": one["kafka_bytes"] * draws.uniform(0.95, 1.05)} for one in POINTS]
    assert fit_all(noisy)["kafka"]["million_readings"] == pytest.approx(150, rel=0.05)


def test_no_coefficient_is_negative() -> None:
    falling = [one | {"heap_mib": 900 - one["meters"] / 2e3} for one in POINTS]
    found = fit(QUANTITIES["heap"], falling)
    assert found["million_meters"] == 0
    assert found["once"] > 0


def test_held_out_fleets_are_compared_and_not_fitted() -> None:
    assert 30_000 in HELD_OUT
    odd = [one | {"kafka_bytes": 2 * one["kafka_bytes"]} if one["meters"] == 30_000 else one for one in POINTS]
    found = fit_all(odd)
    assert found == fit_all(POINTS)
    [row] = [r for r in compared(odd, found) if r["quantity"] == "kafka, MB" and r["meters"] == 30_000]
    assert row["error_percent"] == -50
    assert not row["fitted"]


def test_points_that_failed_or_were_stopped_are_not_used() -> None:
    broken: list[Point] = [
        {"meters": 5_000, "cadence_s": 60, "error": "ended"},
        point(50_000) | {"stopped": "after 720 s"},
    ]
    assert fit_all([*POINTS, *broken]) == fit_all(POINTS)
    with pytest.raises(CannotFit, match="3 points to fit on: 4 or more are needed"):
        fit_all([*POINTS[:3], *broken])


def test_the_model_gives_the_measured_value_in_its_unit() -> None:
    found = fit_all(POINTS)
    for name in ("kafka", "checkpoint", "pipeline_cpu"):
        assert modelled(QUANTITIES[name], found[name], POINTS[3]) == pytest.approx(QUANTITIES[name].measured(POINTS[3]))
    assert QUANTITIES["kafka"].measured(POINTS[0]) == pytest.approx(150 * 30_000 / 1e6)  # MB


def test_a_state_that_still_grows_is_neither_fitted_nor_compared() -> None:
    young = point(50_000, ends=2) | {"state_rows": 1}
    found = fit_all([*POINTS, young])
    assert found["state"]["million_meters"] == pytest.approx(6)
    assert not [r for r in compared([young], found) if r["quantity"].startswith("state")]


def test_points_of_another_report_are_compared_and_not_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, points in (("own.json", POINTS), ("other.json", [point(20_000) | {"kafka_bytes": 240_000_000}])):
        (tmp_path / name).write_text(json.dumps({"scale": {"points": points}}))
    assert main(["sizing", "--report", str(tmp_path / "own.json"), "--also", str(tmp_path / "other.json")]) == 0
    own, _, other = capsys.readouterr().out.partition("other.json, on which nothing is fitted")
    assert "| kafka, MB | 20,000 | 60 | 240 | 36.0 | -85.0 | no |" in other
    assert "20,000" not in own


@pytest.mark.parametrize(("cadence_s", "is_guess"), [(60.0, False), (10.0, False), (1.0, True)])
def test_sizes_at_a_cadence_that_no_point_has_are_called_a_guess(cadence_s: float, is_guess: bool) -> None:
    assert ("**A guess**" in markdown(POINTS, [10_000], cadence_s)) == is_guess


def sizes(meters: int, cadence_s: float = 60, assumed: Assumed | None = None) -> Sizes:
    return size(meters, cadence_s, fit_all(POINTS), LARGEST, assumed or Assumed())


def test_the_sizes_are_in_their_units() -> None:
    found = sizes(600_000, assumed=Assumed(kafka_retention_s=86_400, replication=3))
    assert found.readings_per_s == pytest.approx(10_000)
    assert found.kafka_gb == pytest.approx(10_000 * 150 * 86_400 * 3 / 1e9)
    assert found.lake_gb_day == pytest.approx((10_000 * 20 + 600_000 / 180 * 50) * 86_400 / 1e9, rel=1e-3)
    assert found.state_gb == pytest.approx((1e6 + 1300 * 600_000) / 1e9, rel=1e-3)
    assert found.network_mb_s == pytest.approx(10_000 * (150 * 5 + 20 * 2) / 1e6 + 600_000 / 180 * 50 / 1e6, rel=1e-3)
    assert found.alerts_slots == found.partitions + 2


def test_a_larger_fleet_needs_no_less_of_anything() -> None:
    """Per pipeline figures may fall where a fleet is divided into one pipeline more."""
    fleets = [10_000, 100_000, 500_000, 1_000_000, 10_000_000, 100_000_000]
    found = [sizes(meters) for meters in fleets]
    for name in (
        "readings_per_s",
        "pipelines",
        "busy_cores",
        "state_gb",
        "lake_gb_day",
        "files_day",
        "kafka_gb",
        "network_mb_s",
    ):
        values = [getattr(one, name) for one in found]
        assert values == sorted(values), name


def test_a_faster_cadence_needs_more() -> None:
    slow, fast = sizes(100_000, 60), sizes(100_000, 10)
    assert fast.readings_per_s == pytest.approx(6 * slow.readings_per_s)
    assert fast.busy_cores > slow.busy_cores
    assert fast.lake_gb_day > slow.lake_gb_day


def test_one_pipeline_is_never_larger_than_what_was_measured_or_than_one_task_can_do() -> None:
    found = fit_all(POINTS)
    assert most_meters(60, found, LARGEST, Assumed()) == LARGEST
    at_once = most_meters(1, found, 10**9, Assumed())
    busiest = max(undivided(Fleet(at_once, 1), found).values())
    assert busiest == pytest.approx(0.5, rel=1e-3)
    assert sizes(10 * LARGEST).pipelines == 10


def test_the_command_prints_every_table_from_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "scale.json"
    report.write_text(json.dumps({"scale": {"points": POINTS}}), encoding="utf-8")
    assert main(["sizing", "--report", str(report), "--meters", "10000,100000000", "--cadence", "30"]) == 0
    printed = capsys.readouterr().out
    assert "## Sizes at one reading every 30 s" in printed
    assert "| 100,000,000 | 3,333,333 |" in printed
    assert "| kafka, MB | 30,000 | 60 |" in printed


def test_a_report_that_is_none_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text in ("", "[]", "{}", '{"scale": 1}'):
        report = tmp_path / "other.json"
        report.write_text(text, encoding="utf-8")
        assert main(["sizing", "--report", str(report)]) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert "is no report of fleets" in line
    assert main(["sizing", "--report", str(tmp_path / "missing.json")]) == 2


@pytest.mark.parametrize("words", [["--meters", "10"], ["--meters", "many"], ["--cadence", "0"], ["--cadence", "4000"]])
def test_sizes_out_of_range_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["sizing", *words])
    assert ended.value.code == 2
    assert "from" in capsys.readouterr().err.splitlines()[-1]


def test_a_table_has_a_head_and_a_line_a_row() -> None:
    assert as_markdown([{"a_b": 1}, {"a_b": 2.5}]).splitlines() == ["| a b |", "|---|", "| 1 |", "| 2.50 |"]
