"""What fills the families: progress of Spark, batches, the grid, the machine."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.errors import GridwatchError
from pipelines.local.ports import free_port
from pipelines.observe.batches import count_anomalies, count_archive
from pipelines.observe.grid import BANDS, show_incidents, show_windows
from pipelines.observe.lag import BrokerEnds, LagCollector
from pipelines.observe.metrics import PipelineMetrics
from pipelines.observe.progress import Positions, take_progress
from pipelines.observe.resources import Resources, folder_size
from pipelines.observe.sampler import Sampler
from pipelines.observe.serve import served
from pipelines.settings import Detection, Kafka
from pipelines.small_tables import arrow_schema
from pipelines.tables import ANOMALIES

PROGRESS = json.loads((Path(__file__).parent / "progress.json").read_text(encoding="utf-8"))
"""As Spark 4.2.0 wrote them in a demo: one batch of each query, of RocksDB's figures only the sizes."""


def sample(metrics: PipelineMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(f"gridwatch_{name}", labels)


def taken(*queries: str) -> tuple[PipelineMetrics, Positions]:
    metrics, positions = PipelineMetrics(), Positions()
    for query in queries:
        take_progress(PROGRESS[query], metrics, positions)
    return metrics, positions


def test_a_batch_gives_its_rows_duration_phases_and_positions() -> None:
    progress = PROGRESS["archive"]
    metrics, positions = taken("archive", "archive")
    assert sample(metrics, "input_records_total", query="archive") == 2 * progress["numInputRows"]
    assert sample(metrics, "batch_duration_seconds_count", query="archive") == 2
    spent = progress["durationMs"]["triggerExecution"] / 1000
    assert sample(metrics, "batch_duration_seconds_sum", query="archive") == pytest.approx(2 * spent)
    for phase in ("addBatch", "walCommit", "commitOffsets"):
        found = sample(metrics, "batch_phase_seconds_total", query="archive", phase=phase)
        assert found == pytest.approx(2 * progress["durationMs"][phase] / 1000)
    (source,) = progress["sources"]
    ends = {topic: {int(p): n for p, n in parts.items()} for topic, parts in source["endOffset"].items()}
    assert positions.all() == {"archive": ends}


def test_a_delta_source_has_no_kafka_position_and_its_query_a_watermark_and_state() -> None:
    metrics, positions = taken("windows")
    (state,) = PROGRESS["windows"]["stateOperators"]
    assert positions.all() == {}
    assert sample(metrics, "state_bytes", query="windows") == state["memoryUsedBytes"] > 0
    mark = datetime.fromisoformat(PROGRESS["windows"]["eventTime"]["watermark"])
    age = sample(metrics, "watermark_age_seconds", query="windows")
    assert age == pytest.approx(time.time() - mark.timestamp(), abs=5)


def test_a_query_of_two_topics_has_positions_in_both_and_a_real_time_batch_in_its_topic() -> None:
    _, positions = taken("incidents", "alerts")
    assert set(positions.all()["incidents"]) == {"anomalies", "window-ticks"}
    assert set(positions.all()["alerts"]["sensor-readings"]) == {0, 1, 2, 3}


def test_an_idle_trigger_is_no_batch_but_keeps_the_positions() -> None:
    idle = {**PROGRESS["archive"], "numInputRows": 0, "durationMs": {"latestOffset": 2, "triggerExecution": 2}}
    metrics, positions = PipelineMetrics(), Positions()
    take_progress(idle, metrics, positions)
    assert sample(metrics, "batch_duration_seconds_count", query="archive") is None
    assert positions.all()


def test_an_archive_batch_counts_what_audit_says() -> None:
    at_ms = round(datetime(2026, 3, 1, tzinfo=UTC).timestamp() * 1000)
    row: dict[str, Any] = {
        "accepted": 7, "late": 2, "resent": 1, "rejected_by_reason": {"not_utf8": 3}, "max_event_ts": at_ms,
        "max_kafka_ts": at_ms + 1000,
    }  # fmt: skip
    none_accepted = row | {"accepted": 0, "late": 0, "resent": 0, "max_event_ts": None}
    metrics = PipelineMetrics()
    appended = np.array([at_ms, at_ms + 9000]), np.array([2, 1])
    count_archive(metrics, [row, none_accepted], appended, at_ms / 1000 + 3)
    assert sample(metrics, "processed_readings_total") == 7
    assert sample(metrics, "late_readings_total") == 2
    assert sample(metrics, "resent_readings_total") == 1
    assert sample(metrics, "rejected_records_total", reason="not_utf8") == 6
    assert sample(metrics, "end_to_end_latency_seconds_sum", stage="archive") == 6.0, "never below 0"
    assert sample(metrics, "end_to_end_latency_seconds_count", stage="archive") == 3
    assert sample(metrics, "newest_reading_age_seconds") == pytest.approx(time.time() - at_ms / 1000, abs=5)


def test_anomalies_are_counted_by_kind_and_their_delay_by_stage() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)
    said = {"kafka_ts": at + timedelta(milliseconds=250), "severity": "ERROR"}
    source = {"topic": "t", "partition": 0, "offset": 1, "timestamp": int(at.timestamp() * 1000)}
    rows = [
        said | {"anomaly_id": "a", "anomaly_type": "overvoltage", "stage": "reading", "source": source},
        said | {"anomaly_id": "b", "anomaly_type": "overvoltage", "stage": "reading", "source": source},
        said | {"anomaly_id": "c", "anomaly_type": "feeder_outage", "stage": "feeder", "source": None},
    ]
    metrics = PipelineMetrics()
    count_anomalies(metrics, pa.Table.from_pylist(rows, schema=arrow_schema(ANOMALIES)))
    count_anomalies(metrics, pa.Table.from_pylist([], schema=arrow_schema(ANOMALIES)))
    kind = {"type": "overvoltage", "severity": "ERROR", "stage": "reading"}
    assert sample(metrics, "anomalies_total", **kind) == 2
    assert sample(metrics, "end_to_end_latency_seconds_count", stage="reading") == 2
    assert sample(metrics, "end_to_end_latency_seconds_sum", stage="reading") == pytest.approx(0.5)
    assert sample(metrics, "end_to_end_latency_seconds_count", stage="feeder") is None, "it names no reading"


VOLTAGES = {"m-0": 0.0, "m-1": 200.0, "m-2": 207.0, "m-3": 229.9, "m-4": 230.0, "m-5": 253.0, "m-6": 260.0}


def test_meters_fall_into_bands_by_their_own_nominal_voltage() -> None:
    rows = [{"meter_id": name, "n": 5, "mean_v": volts} for name, volts in VOLTAGES.items()]
    rows += [{"meter_id": "m-7", "n": 0, "mean_v": None}, {"meter_id": "m-8", "n": 5, "mean_v": 120.0}]
    metrics = PipelineMetrics()
    show_windows(metrics, pa.Table.from_pylist(rows), {"m-8": 120.0}, Detection(), 3)
    found = {band: sample(metrics, "meters", band=band) for band in BANDS}
    assert found == {"silent": 1, "dead": 1, "low": 1, "lower_half": 2, "upper_half": 2, "high": 2}
    worst = [sample(metrics, "worst_meter_voltage_pu", rank=str(rank)) for rank in (1, 2, 3)]
    assert worst == [0.0, pytest.approx(200 / 230), pytest.approx(260 / 230)]


def test_incidents_by_feeder_show_the_worst_and_the_rest_together() -> None:
    def incident(feeder: str | None, status: str = "open", severity: str = "ERROR") -> dict[str, Any]:
        return {"feeder_id": feeder, "status": status, "severity": severity, "scope": "meter"}

    rows = [incident("f-1")] * 2 + [incident("f-2"), incident("f-3"), incident(None), incident("f-4", "closed")]
    metrics = PipelineMetrics()
    show_incidents(metrics, [*rows, incident("f-2", severity="WARNING")], 2)
    by_feeder = {name: sample(metrics, "feeder_open_incidents", feeder=name) for name in ("f-1", "f-2", "f-3", "other")}
    assert by_feeder == {"f-1": 2, "f-2": 2, "f-3": None, "other": 2}
    assert sample(metrics, "open_incidents", scope="meter", severity="ERROR") == 5
    assert sample(metrics, "open_incidents", scope="feeder", severity="CRITICAL") == 0
    show_incidents(metrics, [], 2)
    assert sample(metrics, "feeder_open_incidents", feeder="f-1") is None


def test_a_scrape_with_dead_brokers_says_so_soon_and_leaves_the_lag_out() -> None:
    metrics = PipelineMetrics()
    ends = BrokerEnds(Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}"))
    metrics.registry.register(LagCollector(ends, lambda: {"archive": {"t": {0: 5}}}))
    started = time.monotonic()
    assert sample(metrics, "kafka_reachable") == 0
    assert time.monotonic() - started < 5
    assert sample(metrics, "kafka_lag_records", query="archive", topic="t", partition="0") is None


def test_the_disk_and_another_process_are_read_without_its_help(tmp_path: Path) -> None:
    import os

    metrics = PipelineMetrics()
    places = {"lake": str(tmp_path), "checkpoint": "s3a://bucket/checkpoint"}
    metrics.registry.register(Resources(places, pid=os.getpid()))
    size, free = (sample(metrics, f"disk_{what}_bytes", place="lake") for what in ("size", "free"))
    assert size is not None
    assert free is not None
    assert 0 < free <= size
    assert sample(metrics, "disk_free_bytes", place="checkpoint") is None
    assert (sample(metrics, "jvm_resident_memory_bytes") or 0) > 1e6
    assert (sample(metrics, "jvm_cpu_seconds_total") or 0) > 0


def test_the_size_of_a_folder_is_that_of_all_files_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(b"12345")
    (tmp_path / "a" / "b" / "two").write_bytes(b"678")
    assert folder_size(tmp_path) == (8, 2)


def test_a_sample_that_fails_is_said_once_and_the_others_go_on() -> None:
    said: list[str] = []
    taken_twice = threading.Event()
    calls = []

    def broken() -> None:
        raise GridwatchError("no such thing")

    def fine() -> None:
        calls.append(1)
        if len(calls) > 2:
            taken_twice.set()

    with Sampler([broken, fine], 0.01, said.append):
        assert taken_twice.wait(5)
    assert len(said) == 1
    assert "no such thing" in said[0]


def test_a_port_that_is_taken_is_said_and_does_not_stop_the_job() -> None:
    port, said = free_port(), list[str]()
    registry = PipelineMetrics().registry
    with served(registry, "127.0.0.1", port, said.append), served(registry, "127.0.0.1", port, said.append):
        pass
    assert said[0] == f"metrics at http://127.0.0.1:{port}/metrics"
    assert f"127.0.0.1:{port}" in said[1]
    assert "set metrics.port" in said[1]
    with served(registry, "127.0.0.1", 0, said.append):
        assert len(said) == 2
