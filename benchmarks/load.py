"""The readings every engine is measured with, and the fast producer that puts them into Kafka."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from kafka import KafkaAdminClient

from benchmarks.java import compiled, java_class
from pipelines.errors import InfrastructureUnavailable
from pipelines.local import Say
from pipelines.local.processes import Child

WINDOW_S, SLIDE_S, WATERMARK_S = 300, 60, 10
"""Windows of every measurement, in seconds."""
PARTITIONS = 4
FEEDER_METERS = 50
SEED = 7

_START_MS = 1_735_689_600_000
"""2025-01-01T00:00Z, a full minute: the event time of the first reading, so that a seed says all."""
_CLOSING_MS = 1000 * (WINDOW_S + 2 * WATERMARK_S + 10)
_LIMIT_S = 600


@dataclass(frozen=True)
class Load:
    """A fixed number of readings: meter m is read at m / meters of every cadence, 1 % of the meter minutes are odd."""

    readings: int
    meters: int = 10_000
    cadence_s: int = 1
    seed: int = SEED
    closes: bool = True
    """Whether each partition ends with a reading that closes every window."""

    def __post_init__(self) -> None:
        if self.readings % self.meters or SLIDE_S % self.cadence_s:
            raise ValueError(f"{self}: readings must be a multiple of meters, and the cadence must divide {SLIDE_S} s")

    @property
    def start_ms(self) -> int:
        """Event time of the first reading, epoch ms."""
        return _START_MS

    @property
    def ticks(self) -> int:
        """Readings of each meter."""
        return self.readings // self.meters

    @property
    def minutes(self) -> int:
        """Minutes that hold readings; the last one may be shorter."""
        return -(-self.ticks * self.cadence_s // SLIDE_S)

    @property
    def window_ends(self) -> int:
        """Different window ends whose windows hold readings."""
        return self.minutes + WINDOW_S // SLIDE_S - 1

    @property
    def close_ms(self) -> int:
        """Event time of the last reading of each partition, which closes every window before it."""
        return self.start_ms + self.minutes * SLIDE_S * 1000 + _CLOSING_MS

    @property
    def records(self) -> int:
        """Records in the topic: the readings and the closing ones."""
        return self.readings + PARTITIONS * self.closes

    @property
    def topic(self) -> str:
        """Name of the topic that holds it."""
        return f"readings-{self.readings}-{self.meters}-{self.seed}"


def fill_topic(bootstrap: str, load: Load, folder: Path, say: Say) -> float:
    """Create the topic and fill it, in event-time order inside each partition; returns the seconds it took."""
    create_topic(bootstrap, load.topic)
    started = time.monotonic()
    child = _start(
        bootstrap, load.topic, folder, f"load-{load.readings}.log", meters=load.meters, cadenceMs=load.cadence_s * 1000,
        seed=load.seed, readings=load.readings, startMs=load.start_ms, rate=0, lingerMs=20, batchBytes=512 * 1024,
        closeMs=load.close_ms if load.closes else "",
    )  # fmt: skip
    try:
        if not child.wait(_LIMIT_S):
            raise InfrastructureUnavailable(f"{load.readings:,} readings were not in Kafka after {_LIMIT_S} s")
    finally:
        code = child.stop()
    if code:
        raise InfrastructureUnavailable(f"the load producer ended with {code}: {child.log_tail(3)}")
    seconds = time.monotonic() - started
    say(f"loaded {load.readings:,} readings of {load.meters:,} meters in {seconds:.1f} s")
    return seconds


def start_paced(
    bootstrap: str,
    topic: str,
    folder: Path,
    *,
    readings: int,
    rate: int,
    meters: int,
    cadence_s: int,
    storm_from: int,
    seed: int = SEED,
    rarer: int = 1,
) -> Child:
    """Start the open-loop producer: `readings` of `meters`, each read every `cadence_s`, from number `storm_from` on
    all out of band. `rate`: how many a second that is, for its log; `rarer`: so many times fewer minutes are odd.

    The event time of a reading is the moment at which it was due, so a late broker does not flatter a latency. It
    lingers for 5 ms, Kafka's own default: without, a record a request, the broker takes 0.6 of a core.
    """
    return _start(
        bootstrap, topic, folder, "producer.log", meters=meters, cadenceMs=1000 * cadence_s, seed=seed,
        readings=readings, startMs=0, closeMs="", rate=rate, stormFrom=storm_from, rarer=rarer, lingerMs=5,
        batchBytes=16 * 1024,
    )  # fmt: skip


def create_topic(bootstrap: str, *names: str, partitions: int = PARTITIONS) -> None:
    """Create topics whose time is the broker's."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    spec = {
        "num_partitions": partitions,
        "replication_factor": 1,
        "configs": {"message.timestamp.type": "LogAppendTime"},
    }
    try:
        admin.create_topics(dict.fromkeys(names, spec), wait_for_metadata=True)
    finally:
        admin.close()


def write_fleet(path: Path, meters: int) -> Path:
    """The CSV of the meters, `FEEDER_METERS` on a feeder."""
    rows = (f"m{m:07d},f{m // FEEDER_METERS:05d},230,63\n" for m in range(meters))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        file.write("meter_id,feeder_id,nominal_voltage_v,rated_current_a\n")
        file.writelines(rows)
    return path


def _start(bootstrap: str, topic: str, folder: Path, log: str, **given: object) -> Child:
    words = {"bootstrap": bootstrap, "topic": topic, "partitions": PARTITIONS, "stormFrom": 0, "rarer": 1, **given}
    arguments = [f"{name}={value}" for name, value in words.items()]
    command = java_class(compiled("Load"), "Load", heap_mb=384)
    return Child.start("load producer", [*command, *arguments], log=folder / log)
