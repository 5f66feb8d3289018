"""Where the two jobs stand in the topic of readings: the archive by `audit`, the alerts job by its checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pyspark.sql import SparkSession

from pipelines.errors import DataRefused
from pipelines.jobs.context import hadoop_file, read_text
from pipelines.settings import Settings
from pipelines.small_tables import read_rows
from pipelines.tables import AUDIT

EARLIEST = -2
"""What Spark's Kafka source calls the first offset that is there."""

Offsets = Mapping[int, int]
"""Next offset of each partition."""


def published_by_archive(settings: Settings) -> dict[int, int]:
    """Up to where the archive has surely published the anomalies of readings, from `audit`.

    That is each partition's last_offset + 1, but the first offset of the newest batch: `audit` is written before the
    anomalies are sent, and the process may have died in between.
    """
    columns = ["batch_id", "kafka_topic", "kafka_partition", "first_offset", "last_offset"]
    rows = read_rows(settings, AUDIT, columns=columns).to_pylist()
    return published_until([row for row in rows if row["kafka_topic"] == settings.kafka.topics.readings])


def published_until(audit: list[dict[str, Any]]) -> dict[int, int]:
    """The rule of `published_by_archive` over rows of `audit`.

    >>> old = {"kafka_partition": 0, "first_offset": 0, "last_offset": 9, "batch_id": 0}
    >>> new = {"kafka_partition": 0, "first_offset": 10, "last_offset": 14, "batch_id": 1}
    >>> published_until([old, old | {"kafka_partition": 1}, new])
    {0: 10, 1: 10}
    """
    newest = max((row["batch_id"] for row in audit), default=None)
    until: dict[int, int] = {}
    for row in sorted(audit, key=lambda row: row["batch_id"]):
        is_newest = row["batch_id"] == newest
        until[row["kafka_partition"]] = row["first_offset"] if is_newest else row["last_offset"] + 1
    return until


def committed_offsets(spark: SparkSession, checkpoint: str, topic: str) -> dict[int, int] | None:
    """Ends of the last batch that a query with one Kafka topic has committed; None when it has committed none.

    In real-time mode the offsets of a batch are logged at its end, and its commit after them.
    """
    found = committed_topics(spark, checkpoint)
    return None if found is None else found[topic]


def committed_topics(spark: SparkSession, checkpoint: str) -> dict[str, dict[int, int]] | None:
    """The same of every topic of a query with one Kafka source."""
    done = _numbers(spark, f"{checkpoint}/offsets") & _numbers(spark, f"{checkpoint}/commits")
    if not done:
        return None
    text = read_text(spark, *hadoop_file(spark, f"{checkpoint}/offsets/{max(done)}"))
    found = json.loads(text.strip().splitlines()[-1])
    return {
        topic: {int(partition): int(offset) for partition, offset in partitions.items()}
        for topic, partitions in found.items()
    }


def first_offsets(published: Offsets, there: Mapping[int, tuple[int, int]], starting: str) -> Offsets | str:
    """Where the alerts job's first start reads from: behind what the archive has published.

    `there`: first available and next offset of every partition. Where the archive has published nothing at all the
    start is `pipeline.starting`, as it is for the archive. Raises DataRefused when records in between are gone.
    """
    if not published:
        return starting
    for partition, since in sorted(published.items()):
        if partition in there and since < there[partition][0]:
            raise DataRefused(
                f"partition {partition}: readings {since} to {there[partition][0] - 1} were never judged and are gone"
                " from Kafka; start the pipeline once with alerts.mode = microbatch, it judges them from the table"
            )
    return {partition: published.get(partition, EARLIEST) for partition in there}


def positions(starting: Offsets | str, there: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """The offsets at which a start begins to read, as numbers.

    >>> positions({0: 5, 1: -2}, {0: (0, 9), 1: (3, 9)}), positions("latest", {0: (0, 9)})
    ({0: 5, 1: 3}, {0: 9})
    """
    if isinstance(starting, str):
        return {p: first if starting == "earliest" else end for p, (first, end) in there.items()}
    return {p: max(starting.get(p, first), first) for p, (first, _) in there.items()}


def _numbers(spark: SparkSession, folder: str) -> set[int]:
    file_system, path = hadoop_file(spark, folder)
    if not file_system.exists(path):
        return set()
    names = (status.getPath().getName() for status in file_system.listStatus(path))
    return {int(name) for name in names if name.isdecimal()}
