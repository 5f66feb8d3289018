"""How each peer is started for a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from benchmarks.java import compiled, java_class, retrieved
from benchmarks.load import SLIDE_S, WATERMARK_S, WINDOW_S
from benchmarks.measure import Job, engine_environment
from benchmarks.peers.venvs import peer_python
from pipelines.local import Say
from pipelines.local.jars import broker_jars
from pipelines.local.processes import Child

Start = Callable[[Job], Child]
_WINDOWS = {"window_s": WINDOW_S, "slide_s": SLIDE_S, "watermark_s": WATERMARK_S}
_HERE = Path(__file__).parent


def kafka_streams(say: Say) -> Start:
    """Kafka Streams of the broker's own version: two threads, RocksDB, changelog topics, as by default."""
    missing = {jar.name: jar for jar in retrieved("kafka_streams", say)}
    # The broker's jars bring the logging that the library itself lacks.
    jars = [*missing.values(), *(jar for jar in broker_jars(say) if "slf4j" in jar.name or "log4j" in jar.name)]
    class_path = compiled("StreamsPeer", [jar for jar in jars if not jar.name.startswith("slf4j-api-1")])

    def start(job: Job) -> Child:
        given = {
            "bootstrap": job.bootstrap, "topic": job.topic, "out": job.out, "folder": job.folder / "state",
            "windowMs": WINDOW_S * 1000, "slideMs": SLIDE_S * 1000, "graceMs": WATERMARK_S * 1000,
        }  # fmt: skip
        words = [f"{name}={value}" for name, value in given.items()]
        command = java_class(class_path, "StreamsPeer", heap_mb=2048)
        return Child.start("kafka_streams", [*command, *words], log=job.folder / "engine.log")

    return start


def flink(say: Say, *, state: str = "hashmap") -> Start:
    """Flink SQL in PyFlink's mini cluster."""
    python = peer_python("apache-flink", say)
    (connector,) = retrieved("flink_kafka", say)

    def start(job: Job) -> Child:
        job_file = job.write(connector=str(connector), state=state, **_WINDOWS)
        command = [python, _HERE / "flink_sql.py", job_file]
        return Child.start("flink", command, log=job.folder / "engine.log", env=engine_environment(PYTHONPATH=""))

    return start


def quix(say: Say) -> Start:
    """Quix Streams."""
    python = peer_python("quixstreams", say)

    def start(job: Job) -> Child:
        command = [python, _HERE / "quix.py", job.write(**_WINDOWS)]
        return Child.start("quix", command, log=job.folder / "engine.log", env=engine_environment(PYTHONPATH=""))

    return start
