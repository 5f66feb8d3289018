"""Several real Apache Kafka brokers as child processes: each is broker and controller, each topic is on all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.local import Say, quiet
from pipelines.local.broker import RunningBroker
from pipelines.local.broker_config import BrokerFiles
from pipelines.local.broker_kit import broker_kit, random_uuid
from pipelines.local.ports import LOOPBACK, free_ports

MIN_INSYNC = 2
_REPLICATED = ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic")


class BrokerCluster:
    """Brokers of one cluster; a context manager that stops those that run."""

    def __init__(self, brokers: tuple[RunningBroker, ...]) -> None:
        self.brokers = brokers

    @property
    def bootstrap_servers(self) -> str:
        """All addresses, separated by commas."""
        return ",".join(broker.address for broker in self.brokers)

    def start(self) -> Self:
        """Start all at once: one alone has no majority and would wait. Raises InfrastructureUnavailable."""
        try:
            for broker in self.brokers:
                broker.launch()
            for broker in self.brokers:
                broker.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """The last ones have no majority left for an orderly end and are killed after a short grace."""
        for broker in self.brokers:
            broker.stop(grace_s=5)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_brokers(
    run_dir: Path, count: int = 3, *, heap_mb: int = 384, extra: Mapping[str, str] | None = None, say: Say = quiet
) -> BrokerCluster:
    """Start a new cluster with a folder for each broker in `run_dir` and wait until all answer.

    Kafka's own topics have `count` replicas, of which two must be in sync. `extra`: settings of each broker that win
    over ours. Raises InfrastructureUnavailable when Java or the jars are missing or a broker does not come up.
    """
    kit, cluster_id, ports = broker_kit(say), random_uuid(), free_ports(2 * count)
    voters = ",".join(f"{node}@{LOOPBACK}:{port}" for node, port in enumerate(ports[count:], 1))
    brokers = []
    for node, (port, controller_port) in enumerate(zip(ports[:count], ports[count:], strict=True), 1):
        files = BrokerFiles(run_dir.resolve() / f"broker-{node}")
        settings = {"node.id": str(node), "controller.quorum.voters": voters}
        settings |= {f"{topic}.replication.factor": str(count) for topic in _REPLICATED}
        settings |= {f"{topic}.min.isr": str(MIN_INSYNC) for topic in _REPLICATED[1:]}
        files.write(port=port, controller_port=controller_port, extra={**settings, **(extra or {})})
        brokers.append(RunningBroker(kit, files, port=port, heap_mb=heap_mb, node_id=node, cluster_id=cluster_id))
    cluster = BrokerCluster(tuple(brokers))
    say(f"starting Kafka at {cluster.bootstrap_servers}")
    return cluster.start()
