"""A real Apache Kafka broker as a child process, for the demo, for tests and by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from pipelines.local import Say, quiet
from pipelines.local.broker_config import BrokerFiles, java_command
from pipelines.local.broker_kit import BrokerKit, broker_kit
from pipelines.local.ports import free_ports, is_open
from pipelines.local.processes import Child
from pipelines.local.server import LocalServer
from pipelines.local.state import RunState, forget_state, require_not_running, stop_recorded, write_state

STATE_NAME = "broker"
_NO_EXTRA: Mapping[str, str] = MappingProxyType({})


class RunningBroker(LocalServer):
    """One broker: its address stays the same, and its data stay in the run folder, over `restart`.

    After `kill` a restart takes Kafka's own 9 s more: the controller waits out the killed broker's session
    (`broker.session.timeout.ms`).
    """

    name = "Kafka broker"

    def __init__(
        self, kit: BrokerKit, files: BrokerFiles, *, port: int, heap_mb: int, detached: bool = False,
        node_id: int = 1, cluster_id: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(port=port, log=files.log, detached=detached)
        self._node_id = node_id
        self._cluster_id = cluster_id
        self._kit = kit
        self._files = files
        self._heap_mb = heap_mb

    @property
    def bootstrap_servers(self) -> str:
        """`127.0.0.1:PORT`."""
        return self.address

    @property
    def run_dir(self) -> Path:
        """Configuration, data, Kafka's log at WARN (`broker.log`) and what the JVM prints (`broker.out`)."""
        return self._files.run_dir

    def answers(self) -> bool:
        """Whether it listens and its metadata name a broker."""
        if not is_open(self.port):
            return False
        try:
            client = KafkaAdminClient(
                bootstrap_servers=self.bootstrap_servers, bootstrap_timeout_ms=2000, request_timeout_ms=5000
            )
        except KafkaError:
            return False
        try:
            return bool(client.describe_cluster()["brokers"])
        except KafkaError:
            return False
        finally:
            client.close()

    def _start_process(self) -> Child:
        self._kit.format(self._files.data, node_id=self._node_id, cluster_id=self._cluster_id)
        command = java_command(
            self._kit.java,
            self._kit.jars,
            self._files,
            "kafka.Kafka",
            *self._kit.flags(),
            heap_mb=self._heap_mb,
        )
        argv = [*command, str(self._files.properties)]
        return Child.start(self.name, argv, log=self._files.output, detached=self._detached)


def start_broker(
    run_dir: Path,
    *,
    port: int | None = None,
    heap_mb: int = 512,
    extra: Mapping[str, str] = _NO_EXTRA,
    detached: bool = False,
    say: Say = quiet,
) -> RunningBroker:
    """Start a broker with its data in `run_dir` and wait until it answers.

    The port is free and chosen by us unless given. `extra` holds broker settings that win over ours, such as
    `advertised.listeners` for a proxy in front. Data of an earlier run in the same folder are kept.
    Raises InfrastructureUnavailable when Java or the jars are missing or the broker does not come up.
    """
    kit = broker_kit(say)
    free, controller_port = free_ports(2)
    files = BrokerFiles(run_dir.resolve())
    broker = RunningBroker(kit, files, port=port or free, heap_mb=heap_mb, detached=detached)
    files.write(port=broker.port, controller_port=controller_port, extra=extra)
    say(f"starting Kafka at {broker.bootstrap_servers}")
    return broker.start()


def start_detached_broker(run_dir: Path, *, port: int | None = None, say: Say = quiet) -> RunningBroker:
    """Start a broker that outlives this process; `stop_detached_broker` with the same folder ends it.

    Raises SettingsError when one of this folder runs already.
    """
    require_not_running(run_dir, STATE_NAME)
    broker = start_broker(run_dir, port=port, detached=True, say=say)
    write_state(run_dir, RunState.of(STATE_NAME, broker.pid, address=broker.bootstrap_servers))
    return broker


def stop_detached_broker(run_dir: Path) -> bool:
    """Stop the broker that was left running from this folder; False when none runs. Its data stay."""
    stopped = stop_recorded(run_dir, STATE_NAME)
    forget_state(run_dir, STATE_NAME)
    return stopped
