"""Figures that are read off the topic of the anomalies."""

from __future__ import annotations

from typing import Any

from benchmarks.latency import first_of_each, quantiles, reading_latencies
from benchmarks.recovery import alert_times


def anomaly(number: int, read_ms: int, said_ms: int) -> tuple[dict[str, Any], int]:
    return {"anomalyId": str(number), "stage": "reading", "source": {"timestamp": read_ms}}, said_ms


def test_an_anomaly_counts_when_it_first_came_however_often_it_is_repeated() -> None:
    found = first_of_each([anomaly(1, 0, 900), anomaly(1, 0, 30), anomaly(2, 0, 40)])
    assert sorted(at for _, at in found) == [30, 40]


def test_the_latency_of_a_reading_belongs_to_the_time_at_which_it_was_read() -> None:
    records = [anomaly(1, 999, 5_000), anomaly(2, 1_000, 1_004), anomaly(3, 2_000, 2_900)]
    assert reading_latencies(records, 1_000, 2_000) == {"p50": 4.0, "p99": 4.0, "p999": 4.0, "max": 4.0, "n": 1}


def test_no_anomaly_gives_no_figure() -> None:
    assert quantiles([]) == {"p50": None, "p99": None, "p999": None, "max": None, "n": 0}


def test_a_killed_job_has_caught_up_when_its_anomalies_are_as_quick_as_before() -> None:
    #           usual          killed     first          caught up
    records = [anomaly(1, 9_000, 9_050), anomaly(2, 10_500, 22_000), anomaly(3, 25_000, 25_040)]
    assert alert_times(records, killed_ms=10_000) == {"first_output_s": 12.0, "caught_up_s": 15.04}


def test_a_job_that_never_speaks_again_has_no_figure() -> None:
    assert alert_times([anomaly(1, 9_000, 9_050)], killed_ms=10_000) == {"first_output_s": None, "caught_up_s": None}
