"""A Prometheus histogram that takes the values of a whole batch at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import numpy as np
from prometheus_client import CollectorRegistry
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Values = np.ndarray[tuple[int], np.dtype[np.float64]]
Times = np.ndarray[tuple[int], np.dtype[np.int64]]


class BulkHistogram(Collector):
    """Like `prometheus_client.Histogram` with one label; a million values cost some 20 ms instead of a second.

    Buckets are upper bounds, inclusive.
    """

    def __init__(
        self, name: str, text: str, label: str, *, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._bounds = np.asarray(sorted(buckets), dtype=np.float64)
        self._counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = {}
        self._sums: dict[str, float] = {}
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, label: str, values: Values, times: Times | None = None) -> None:
        """Add values under a label's value, each once or as often as `times` says. NaN is refused by the caller, not
        here."""
        if not len(values):
            return
        places = np.searchsorted(self._bounds, values, side="left")
        counts = np.bincount(places, times, minlength=len(self._bounds) + 1).astype(np.int64)
        total = values.sum() if times is None else values @ times
        with self._lock:
            self._counts[label] = self._counts.get(label, np.zeros_like(counts)) + counts
            self._sums[label] = self._sums.get(label, 0.0) + float(total)

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """The family without values: what the registry checks names by."""
        yield HistogramMetricFamily(self._name, self._text, labels=[self._label])

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The family as it is now."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label])
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        with self._lock:
            taken = [(label, np.cumsum(counts), self._sums[label]) for label, counts in self._counts.items()]
        for label, running, total in taken:
            pairs: Sequence[tuple[str, float]] = list(zip(bounds, map(float, running), strict=True))
            family.add_metric([label], pairs, total)
        yield family
