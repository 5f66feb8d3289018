"""Figures about the whole group, asked of the brokers at each scrape: they are there also when no member is."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipelines.alerts.group import Group
from pipelines.errors import InfrastructureUnavailable


class GroupCollector(Collector):
    """`gridwatch_alerts_members`, and what the group has committed by partition; left out when nobody answers."""

    def __init__(self, group: Group) -> None:
        self._group = group

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """Names for the registry; nobody is asked yet."""
        yield from _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask the brokers."""
        members, committed = _families()
        try:
            members.add_metric([], self._group.members())
            for partition, offset in self._group.committed().items():
                committed.add_metric([str(partition)], offset)
        except InfrastructureUnavailable:
            pass
        yield from (members, committed)


def group_position(group: Group) -> dict[str, dict[str, dict[int, int]]]:
    """What the group has committed, as the lag of a query is counted from; nothing when the brokers do not answer."""
    try:
        return {"alerts": {group.topic: group.committed()}}
    except InfrastructureUnavailable:
        return {}


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("gridwatch_alerts_members", "Members of the alerts' group; 0: nobody judges readings."),
        GaugeMetricFamily(
            "gridwatch_alerts_group_offset", "Next offset of a partition, as the group has committed it.",
            labels=["partition"],
        ),
    )  # fmt: skip
