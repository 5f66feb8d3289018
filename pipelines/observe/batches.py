"""What a batch has computed anyway, to counters. Called after the writes it speaks of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.observe.metrics import PipelineMetrics

ARCHIVE = "archive"

Longs = np.ndarray[tuple[int], np.dtype[np.int64]]


def count_archive(
    metrics: PipelineMetrics, audit: Sequence[Mapping[str, Any]], appended: tuple[Longs, Longs] | None, now_s: float
) -> None:
    """One archive batch: its figures of `audit` (times in epoch ms), and when it was stored.

    `appended`: broker times (epoch ms) and the number of records of each; None when nobody knows any more.
    """
    for row in audit:
        metrics.processed.inc(row["accepted"])
        metrics.late.inc(row["late"])
        metrics.resent.inc(row["resent"])
        for reason, items in row["rejected_by_reason"].items():
            metrics.rejected.labels(reason).inc(items)
    if appended is not None:
        times, counts = appended
        metrics.latency.observe(ARCHIVE, np.maximum(0.0, now_s - times / 1000), counts)
    for gauge, column in ((metrics.newest_event_age, "max_event_ts"), (metrics.newest_record_age, "max_kafka_ts")):
        moments = [row[column] / 1000 for row in audit if row[column] is not None]
        if moments:
            metrics.set_age(gauge, max(moments))


def count_anomalies(metrics: PipelineMetrics, stored: pa.Table) -> None:
    """Anomalies that the table did not have before; columns of `anomalies`."""
    kinds = stored.group_by(["anomaly_type", "severity", "stage"]).aggregate([("anomaly_id", "count")])
    for row in kinds.to_pylist():
        labels = row["anomaly_type"], row["severity"], row["stage"]
        metrics.anomalies.labels(*labels).inc(row["anomaly_id_count"])
    _observe_delays(metrics, stored)


def _observe_delays(metrics: PipelineMetrics, stored: pa.Table) -> None:
    """From the append of the reading to that of the anomaly, by stage; a feeder's anomaly names no reading."""
    read_ms = _as_ms(pc.struct_field(stored["source"], "timestamp"))
    delays = np.maximum(0.0, (_as_ms(stored["kafka_ts"]) - read_ms) / 1000)
    for stage in pc.unique(stored["stage"]).to_pylist():
        of_stage = delays[pc.equal(stored["stage"], stage).to_numpy()]
        metrics.latency.observe(stage, of_stage[~np.isnan(of_stage)])


def _as_ms(values: pa.ChunkedArray) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Epoch milliseconds, NaN where there is none; times come as numbers or as timestamps."""
    if pa.types.is_timestamp(values.type):
        return _as_ms(pc.cast(pc.cast(values, pa.timestamp("us", "UTC")), pa.int64())) / 1000
    found: np.ndarray[tuple[int], np.dtype[np.float64]] = pc.cast(values, pa.float64()).to_numpy()
    return found
