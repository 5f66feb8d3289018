"""A real Spark standalone cluster, one master and some workers, started from the pip package of pyspark."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.local import Say, quiet
from pipelines.local.java import require_java
from pipelines.local.ports import LOOPBACK, free_ports
from pipelines.local.processes import Child, tail
from pipelines.local.server import LocalServer
from pipelines.local.spark_home import spark_home

_PACKAGE = "org.apache.spark.deploy"


class _SparkProcess(LocalServer):
    """A master or a worker; it answers once its log says that it is in its place."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        port: int,
        run_dir: Path,
        proof: str,
        env: Mapping[str, str],
    ) -> None:
        super().__init__(port=port, log=run_dir / f"{name.replace(' ', '-')}.log")
        self.name = name
        self._arguments = arguments
        self._proof = proof
        self._environment = env

    def answers(self) -> bool:
        return self._proof in tail(self.log, 1000)

    def _start_process(self) -> Child:
        argv = [str(spark_home() / "bin" / "spark-class"), *self._arguments]
        return Child.start(self.name, argv, log=self.log, env=self._environment)


class RunningCluster:
    """Master and workers; `stop` ends them all, workers first, with their executors."""

    def __init__(self, master: _SparkProcess, workers: Sequence[_SparkProcess]) -> None:
        self.master = master
        self.workers = tuple(workers)

    @property
    def master_url(self) -> str:
        """`spark://127.0.0.1:PORT`, for `spark-submit --master`."""
        return f"spark://{self.master.address}"

    def start(self) -> Self:
        """Start the master, then all workers at once (they retry every 10 s); stop all when one fails."""
        try:
            self.master.start()
            for worker in self.workers:
                worker.launch()
            for worker in self.workers:
                worker.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self, grace_s: float = 10.0) -> None:
        """Stop everything; what is stopped already stays so."""
        for process in (*self.workers, self.master):
            process.stop(grace_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_cluster(
    run_dir: Path, *, workers: int = 1, cores: int = 2, memory: str = "2g", say: Say = quiet
) -> RunningCluster:
    """Start a cluster on loopback and wait until every worker has registered.

    `cores` and `memory` are of each worker. Python on the workers is the one that runs us.
    Raises InfrastructureUnavailable when Java is missing or a process does not come up.
    """
    folder = run_dir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    environment = _environment(require_java())
    ports = free_ports(2 * (workers + 1))
    master = _master(folder, ports[0], ports[1], environment)
    crew = []
    for number in range(1, workers + 1):
        own = ports[2 * number : 2 * number + 2]
        crew.append(_worker(folder, number, own, master.address, cores, memory, environment))
    cluster = RunningCluster(master, crew)
    say(f"starting a Spark cluster at {cluster.master_url}")
    return cluster.start()


def _master(folder: Path, port: int, web_port: int, env: Mapping[str, str]) -> _SparkProcess:
    arguments = [
        f"{_PACKAGE}.master.Master",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--webui-port",
        str(web_port),
    ]
    proof = "New state: ALIVE"
    return _SparkProcess("spark master", arguments, port=port, run_dir=folder, proof=proof, env=env)


def _worker(
    folder: Path,
    number: int,
    ports: Sequence[int],
    master: str,
    cores: int,
    memory: str,
    env: Mapping[str, str],
) -> _SparkProcess:
    name = f"spark worker {number}"
    address = ["--host", LOOPBACK, "--port", str(ports[0]), "--webui-port", str(ports[1])]
    size = ["--cores", str(cores), "--memory", memory, "--work-dir", str(folder / f"worker-{number}")]
    arguments = [f"{_PACKAGE}.worker.Worker", *address, *size, f"spark://{master}"]
    proof = "Successfully registered with master"
    return _SparkProcess(name, arguments, port=ports[0], run_dir=folder, proof=proof, env=env)


def _environment(java: Path) -> dict[str, str]:
    """Ours without another Spark's settings; the daemons get a small heap and log to their output."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPARK_")}
    return inherited | {
        "JAVA_HOME": str(java.resolve().parent.parent),
        "SPARK_HOME": str(spark_home()),
        "SPARK_LOCAL_IP": LOOPBACK,
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_MASTER_OPTS": "-Dspark.master.rest.enabled=false",  # a fixed port that takes jobs from anyone
        "PYSPARK_PYTHON": sys.executable,
    }
