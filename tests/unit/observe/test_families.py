"""The families themselves: names, units, labels; and what a scrape of them costs nobody."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pipelines.observe.bulk import BulkHistogram
from pipelines.observe.metrics import AlertsMetrics, NotifyMetrics, PipelineMetrics, ProgramMetrics
from pipelines.write_times import listening, timed

PROGRAMS = (PipelineMetrics, AlertsMetrics, NotifyMetrics)
FORBIDDEN_LABELS = {"meter", "meter_id", "message", "incident", "incident_id"}
BASE_UNITS = re.compile(r"_(seconds|bytes|records|readings|rows|pu|info|interval_seconds)$")
PLAIN_COUNTS = {
    "up", "restarts", "batch_number", "anomalies", "open_incidents", "feeder_open_incidents", "meters",
    "notifications", "notifications_pending", "table_files", "table_version", "maintained_files", "partitions_left_out",
    "alerts_sent", "alerts_committed_offset", "alerts_partitions", "alerts_bounds_version",
}  # fmt: skip


def ours(program: ProgramMetrics) -> list[tuple[str, tuple[str, ...]]]:
    collectors = program.registry._collector_to_names
    found = []
    for collector in collectors:
        for family in collector.collect():
            if family.name.startswith("gridwatch_"):
                labels = getattr(collector, "_labelnames", ()) or (getattr(collector, "_label", None),)
                found.append((family.name.removeprefix("gridwatch_"), tuple(filter(None, labels))))
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_names_carry_base_units_and_labels_hold_no_meter_id_and_no_free_text(program: type[ProgramMetrics]) -> None:
    families = ours(program())
    assert families
    assert not [name for name, _ in families if not BASE_UNITS.search(name) and name not in PLAIN_COUNTS]
    assert not [(name, labels) for name, labels in families if FORBIDDEN_LABELS & set(labels)]


@pytest.mark.parametrize("program", PROGRAMS)
def test_everything_of_ours_has_the_prefix(program: type[ProgramMetrics]) -> None:
    text = generate_latest(program().registry).decode()
    names = {family.name for family in text_string_to_metric_families(text)}
    assert not [n for n in names if not n.startswith(("gridwatch_", "process_", "python_"))]


def test_the_queries_are_known_before_their_first_batch_so_that_a_rate_begins_at_zero() -> None:
    metrics = PipelineMetrics()
    metrics.prepare({"archive": 5.0})
    value = metrics.registry.get_sample_value
    assert value("gridwatch_input_records_total", {"query": "archive"}) == 0
    assert value("gridwatch_batch_duration_seconds_count", {"query": "archive"}) == 0
    assert value("gridwatch_trigger_interval_seconds", {"query": "archive"}) == 5


def test_an_age_grows_from_scrape_to_scrape() -> None:
    metrics = PipelineMetrics()
    metrics.set_age(metrics.watermark_age, time.time() - 100, "windows")
    first = metrics.registry.get_sample_value("gridwatch_watermark_age_seconds", {"query": "windows"})
    time.sleep(0.02)
    second = metrics.registry.get_sample_value("gridwatch_watermark_age_seconds", {"query": "windows"})
    assert first is not None
    assert second is not None
    assert 100 <= first < second < 101


def test_a_bulk_histogram_counts_as_the_librarys_own_would() -> None:
    from prometheus_client import Histogram

    values = np.array([0.0, 0.1, 0.1000001, 0.5, 2.0, 7.0])
    mine, its = CollectorRegistry(), CollectorRegistry()
    bulk = BulkHistogram("x_seconds", "text", "stage", buckets=(1, 0.1, 0.5), registry=mine)
    plain = Histogram("x_seconds", "text", ("stage",), buckets=(0.1, 0.5, 1), registry=its)
    for part in (values[:3], values[3:], values[:0]):
        bulk.observe("a", part)
    for value in values:
        plain.labels("a").observe(value)

    def samples(registry: CollectorRegistry) -> dict[tuple[str, str], float]:
        families = text_string_to_metric_families(generate_latest(registry).decode())
        found = [s for f in families for s in f.samples if not s.name.endswith("_created")]
        return {(s.name, str(sorted(s.labels.items()))): round(s.value, 9) for s in found}

    assert samples(mine) == samples(its)


def test_a_million_latencies_cost_less_than_a_tenth_of_a_second() -> None:
    """The archive takes up to a million records a batch, which takes it seconds."""
    bulk = BulkHistogram("x_seconds", "text", "stage", buckets=range(24), registry=CollectorRegistry())
    values = np.random.default_rng(7).uniform(0, 30, 1_000_000)
    started = time.process_time()
    bulk.observe("a", values)
    assert time.process_time() - started < 0.5  # 0.05 s measured; the rest is for a slow machine


def test_writes_are_timed_by_kind_and_name_while_somebody_listens_also_failed_ones() -> None:
    metrics = PipelineMetrics()

    def write() -> None:
        with timed("delta", "readings"):
            raise OSError("no disk")

    with listening(metrics.time_sink), pytest.raises(OSError, match="no disk"):
        write()
    with pytest.raises(OSError, match="no disk"):
        write()
    labels = {"kind": "delta", "sink": "readings"}
    assert metrics.registry.get_sample_value("gridwatch_sink_duration_seconds_count", labels) == 1
