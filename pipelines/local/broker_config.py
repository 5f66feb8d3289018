"""What the embedded broker is configured with: one node that is broker and controller, on loopback only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.local.ports import LOOPBACK

_LOG4J2 = """\
status = error
appender.file.type = File
appender.file.name = file
appender.file.fileName = ${sys:gridwatch.log}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS}{UTC} %p %c{1}: %m%n%throwable
rootLogger.level = warn
rootLogger.appenderRef.file.ref = file
"""


@dataclass(frozen=True)
class BrokerFiles:
    """The files of one broker in its run folder."""

    run_dir: Path

    @property
    def properties(self) -> Path:
        return self.run_dir / "server.properties"

    @property
    def log4j2(self) -> Path:
        return self.run_dir / "log4j2.properties"

    @property
    def data(self) -> Path:
        """Topics and metadata; formatted once, kept over restarts."""
        return self.run_dir / "data"

    @property
    def log(self) -> Path:
        """The broker's own log, level WARN."""
        return self.run_dir / "broker.log"

    @property
    def output(self) -> Path:
        """What the JVM itself prints."""
        return self.run_dir / "broker.out"

    def write(self, *, port: int, controller_port: int, extra: Mapping[str, str]) -> None:
        """Write the configuration files; later keys of `extra` win over ours."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        settings = {**server_settings(self.data, port=port, controller_port=controller_port), **extra}
        lines = [f"{key}={_escaped(value)}" for key, value in settings.items()]
        self.properties.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.log4j2.write_text(_LOG4J2, encoding="utf-8")


def server_settings(data: Path, *, port: int, controller_port: int) -> dict[str, str]:
    """The broker's settings. Limits of messages, batches and retention stay at Kafka's defaults."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        # Fixed voters: the controller's address stays out of the data, so a later start may use another port.
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "1",  # of 50: each is a folder to make and to recover
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),  # of 128 MiB, a quarter of our heap
    }


def java_command(
    java: Path, jars: Sequence[Path], files: BrokerFiles, main: str, *flags: str, heap_mb: int = 512
) -> list[str]:
    """Command line of one of Kafka's main classes; its arguments follow."""
    return [
        str(java),
        f"-Xmx{heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        *flags,
        f"-Dgridwatch.log={files.log}",
        f"-Dlog4j2.configurationFile={files.log4j2}",
        "-cp",
        ":".join(str(jar) for jar in jars),
        main,
    ]


def _escaped(value: str) -> str:
    """A value as Java's property files want it: only the backslash is special here."""
    return value.replace("\\", "\\\\")
