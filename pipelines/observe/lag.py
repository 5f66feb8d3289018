"""How far the queries are behind the brokers, asked at each scrape: it grows also while a query hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.observe.progress import Offsets
from pipelines.settings import Kafka
from pipelines.topics import client_options

_PATIENCE_MS = 2000
"""A scrape waits this long for the brokers; Prometheus gives up after 10 s."""

Ends = dict[tuple[str, int], int]


class BrokerEnds:
    """Next committed offset of partitions, from one long-lived consumer. Several threads may ask, one at a time."""

    def __init__(self, kafka: Kafka) -> None:
        self._kafka = kafka
        self._consumer: Any = None
        self._lock = threading.Lock()

    def ask(self, parts: set[tuple[str, int]]) -> Ends | None:
        """Ends of partitions; None when the brokers do not answer in time."""
        if not parts:
            return {}
        with self._lock:
            try:
                if self._consumer is None:
                    self._consumer = self._connect()
                wanted = [TopicPartition(*part) for part in sorted(parts)]
                found = self._consumer.end_offsets(wanted, timeout_ms=_PATIENCE_MS)
            except Exception:  # of whatever kind: it would fail the whole scrape
                self._drop()
                return None
            return {(part.topic, part.partition): end for part, end in found.items()}

    def close(self) -> None:
        """Leave the brokers."""
        with self._lock:
            self._drop()

    def _connect(self) -> Any:
        return KafkaConsumer(
            **client_options(self._kafka), enable_auto_commit=False, bootstrap_timeout_ms=_PATIENCE_MS,
            isolation_level="read_committed",
        )  # fmt: skip

    def _drop(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(Exception):
                consumer.close(timeout_ms=1000)


class LagCollector(Collector):
    """`gridwatch_kafka_lag_records` by query, topic and partition, and whether the brokers answered.

    When they do not, the lag is left out: a number from before would hide that it grows.
    """

    def __init__(self, ends: BrokerEnds, read: Callable[[], Mapping[str, Offsets]]) -> None:
        self._ends = ends
        self._read = read

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names for the registry; nobody is asked yet."""
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the brokers, compare with what the queries have read."""
        lag, reachable, spent = _families()
        read = self._read()
        started = time.perf_counter()
        parts = {(t, p) for by_topic in read.values() for t, found in by_topic.items() for p in found}
        ends = self._ends.ask(parts)
        spent.add_metric([], time.perf_counter() - started)
        reachable.add_metric([], float(ends is not None))
        for labels, records in lags(read, ends or {}):
            lag.add_metric(labels, records)
        yield from (lag, reachable, spent)


def lags(read: Mapping[str, Offsets], ends: Ends) -> Iterator[tuple[list[str], int]]:
    """Query, topic, partition, and the records between what is read and the end.

    >>> list(lags({"archive": {"t": {0: 5, 1: 3}}}, {("t", 0): 9, ("t", 1): 2}))
    [(['archive', 't', '0'], 4), (['archive', 't', '1'], 0)]
    """
    for query, by_topic in read.items():
        for topic, partitions in by_topic.items():
            for partition, offset in partitions.items():
                if (topic, partition) in ends:
                    yield [query, topic, str(partition)], max(0, ends[topic, partition] - offset)


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily(
            "gridwatch_kafka_lag_records",
            "Records in a partition that a query has not committed, asked of the brokers at the moment of the scrape.",
            labels=["query", "topic", "partition"],
        ),
        GaugeMetricFamily("gridwatch_kafka_reachable", "1 when the brokers answered this scrape."),
        GaugeMetricFamily("gridwatch_kafka_ask_seconds", "How long the brokers took to answer this scrape."),
    )
