"""Figures about the whole group, asked of the brokers at each scrape: they are there also when no member is."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.alerts.group import Group
from pipelines.errors import InfrastructureUnavailable

PATIENCE_S = 1.5
"""A scrape waits this long for an answer about the group."""
_FRESH_S = 1.0


class GroupCollector(Collector):
    """`gridwatch_alerts_members`, and what the group has committed by partition; left out when nobody answers."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._lock = threading.Lock()
        self._asked_at = -_FRESH_S
        self._committed: dict[int, int] = {}

    def position(self) -> dict[str, dict[str, dict[int, int]]]:
        """What the group has committed, as the lag of a query is counted from; nothing when nobody answers."""
        found = self._ask()
        return {"alerts": {self._group.topic: found}} if found else {}

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names for the registry; nobody is asked yet."""
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the brokers."""
        members, committed = _families()
        for partition, offset in self._ask().items():
            committed.add_metric([str(partition)], offset)
        with suppress(InfrastructureUnavailable):
            members.add_metric([], self._group.members())
        yield from (members, committed)

    def _ask(self) -> dict[int, int]:
        """Once for all collectors of a scrape."""
        with self._lock:
            if time.monotonic() - self._asked_at >= _FRESH_S:
                try:
                    self._committed = self._group.committed()
                except InfrastructureUnavailable:
                    self._committed = {}
                self._asked_at = time.monotonic()
            return dict(self._committed)


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("gridwatch_alerts_members", "Members of the alerts' group; 0: nobody judges readings."),
        GaugeMetricFamily(
            "gridwatch_alerts_group_offset", "Next offset of a partition, as the group has committed it.",
            labels=["partition"],
        ),
    )  # fmt: skip
