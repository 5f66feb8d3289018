"""What benchmarks of the running product rest on: when a reading is due, what a part takes, what must be found."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from benchmarks.answers import PacedAnswer
from benchmarks.drain import Drain, summary
from benchmarks.latency import check_readings
from benchmarks.live import Traffic
from benchmarks.measure import Timing, WrongAnswer
from benchmarks.trees import processes, pss_mb, tree


def test_each_meter_is_read_once_a_minute_however_the_rate_was_rounded() -> None:
    traffic = Traffic(167, 180, meters=10_000)
    due = [traffic.due_ms(0, number) for number in (0, 1, 10_000, 20_000)]
    assert due == [0, 6, 60_000, 120_000]


def test_the_storm_is_the_last_part_of_the_traffic() -> None:
    traffic = Traffic(1_000, 60, storm_s=10, meters=1_000)
    assert traffic.due_ms(0, traffic.storm_from) == 50_000


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells of memory in /proc")
def test_the_memory_of_a_process_is_no_more_than_what_it_has_mapped() -> None:
    known = processes()
    found = pss_mb(os.getpid(), known)
    assert found is not None
    assert 0 < found <= 1.1 * tree(os.getpid(), known).rss_mib * 1.048576


def test_a_process_that_is_gone_has_no_memory() -> None:
    assert pss_mb(2**22 + 1, processes()) is None


def anomaly(kind: str) -> tuple[dict[str, Any], int]:
    return {"stage": "reading", "anomalyType": kind}, 0


def test_a_missing_anomaly_of_a_reading_is_a_wrong_answer() -> None:
    found = [anomaly("undervoltage"), anomaly("overvoltage"), anomaly("voltage_spike")]
    check_readings(found, PacedAnswer(frozenset(), readings_low=1, readings_high=1))
    with pytest.raises(WrongAnswer):
        check_readings(found[:-1], PacedAnswer(frozenset(), readings_low=1, readings_high=1))


def test_the_report_of_a_drain_holds_the_slope_of_each_part_and_all_its_runs() -> None:
    def runs(*cpu_s: float) -> list[Timing]:
        return [Timing("e", n, 10.0, cpu, 1.0, 1.0) for n, cpu in zip((1_000_000, 3_000_000), cpu_s, strict=True)]

    found = summary(Drain(runs(20, 38), runs(15, 29), runs(3, 7)))
    assert (found["readings"], found["readings_per_s"]) == (3_000_000, 300_000)
    assert (found["cpu_s_per_million"], found["alerts_cpu_s_per_million"]) == (9.0, 2.0)
    assert found["without_windows"]["cpu_s_per_million"] == 7.0
    assert set(found["runs"]) == {"gridwatch", "without_windows", "alerts"}
