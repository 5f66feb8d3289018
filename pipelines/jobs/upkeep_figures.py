"""What a round of upkeep did, to the metrics."""

from __future__ import annotations

from pipelines.observe.metrics import PipelineMetrics
from pipelines.upkeep import TableUpkeep


def show_upkeep(metrics: PipelineMetrics, done: TableUpkeep) -> None:
    """One round over one table: when, how long, what it did, and how the table stands after it."""
    metrics.last_maintenance.labels(done.table).set(done.at)
    metrics.maintenance_duration.labels(done.table).set(done.seconds)
    metrics.table_files.labels(done.table).set(done.files)
    metrics.table_bytes.labels(done.table).set(done.bytes)
    metrics.table_version.labels(done.table).set(done.version)
    for what, files in (
        ("compacted", done.compacted_files),
        ("expired", done.expired_files),
        ("vacuumed", done.vacuumed_files),
    ):
        metrics.maintained_files.labels(done.table, what).inc(files)
