"""One engine over one load: started, watched to its end, timed, and its answer compared before a figure leaves."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from kafka import KafkaConsumer, TopicPartition

from benchmarks.answers import Flagged, Key
from benchmarks.cpu import tree_cpu_s
from benchmarks.load import Load
from pipelines.errors import GridwatchError, InfrastructureUnavailable
from pipelines.local import Say
from pipelines.local.processes import Child, log_text

READY = "BENCH READY"
"""An engine says this right before it begins to read."""

_POLL_S = 0.1
_START_LIMIT_S = 180.0


class WrongAnswer(GridwatchError):
    """An engine found something else than the model: its figures mean nothing."""


@dataclass(frozen=True)
class Job:
    """What an engine gets: which topic to read, where to send flagged windows, a folder of its own."""

    bootstrap: str
    topic: str
    out: str
    folder: Path
    load: Load

    def write(self, **more: Any) -> Path:
        """The job as JSON, for engines that run outside our environment."""
        path = self.folder / "job.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**asdict(self), "folder": str(self.folder), **more}), encoding="utf-8")
        return path


@dataclass(frozen=True)
class Timing:
    """One run. `seconds` and `cpu_s` are from the first record read to the last flagged window in Kafka; the start
    of the engine before that stands apart."""

    engine: str
    readings: int
    seconds: float
    cpu_s: float
    start_s: float
    start_cpu_s: float
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def readings_per_s(self) -> float:
        """Throughput without the start."""
        return self.readings / self.seconds

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return {
            "readings": self.readings,
            "readings_per_s": round(self.readings_per_s),
            "seconds": round(self.seconds, 2),
            "cpu_s": round(self.cpu_s, 1),
            "cpu_s_per_million": round(self.cpu_s / self.readings * 1e6, 2),
            "start_s": round(self.start_s, 1),
            "start_cpu_s": round(self.start_cpu_s, 1),
            **self.notes,
        }


def marginal_cpu(small: Timing, large: Timing) -> float | None:
    """CPU seconds per million readings between two sizes: what a reading costs once the JVM is warm."""
    more = large.readings - small.readings
    return round((large.cpu_s - small.cpu_s) / more * 1e6, 2) if more > 0 else None


def marginal_rate(small: Timing, large: Timing) -> int | None:
    """Readings a second between two sizes; None when the larger run was not slower."""
    seconds = large.seconds - small.seconds
    return round((large.readings - small.readings) / seconds) if seconds > 0 else None


def time_engine(
    engine: str, start: Callable[[], Child], *, readings: int, is_done: Callable[[], bool], limit_s: float, say: Say,
    ready: str = READY, poll_s: float = _POLL_S, end_s: float = 2,
) -> Timing:  # fmt: skip
    """Start an engine, wait until it says `ready` and then, asking every `poll_s`, for `is_done`; end it in `end_s`.

    Raises InfrastructureUnavailable when it dies or is not done in time; its log says why.
    """
    began = time.monotonic()
    child = start()
    try:
        _await(child, engine, lambda: ready in log_text(child.log), _START_LIMIT_S, _POLL_S, say)
        started, start_cpu_s = time.monotonic(), tree_cpu_s(child.pid)
        _await(child, engine, is_done, limit_s, poll_s, say)
        seconds, cpu_s = time.monotonic() - started, tree_cpu_s(child.pid) - start_cpu_s
    finally:
        child.stop(grace_s=end_s)
    timing = Timing(engine, readings, seconds, cpu_s, started - began, start_cpu_s)
    cost = f"{timing.readings_per_s:,.0f}/s, {cpu_s / readings * 1e6:.1f} CPU s a million"
    say(f"{engine}: {readings:,} readings in {seconds:.1f} s, {cost}")
    return timing


def _await(child: Child, engine: str, condition: Callable[[], bool], limit_s: float, poll_s: float, say: Say) -> None:
    deadline, told = time.monotonic() + limit_s, time.monotonic()
    while not condition():
        if not child.is_running():
            raise InfrastructureUnavailable(f"{engine} ended: {child.log_tail(5)}; see {child.log}")
        now = time.monotonic()
        if now > deadline:
            raise InfrastructureUnavailable(f"{engine} was not done after {limit_s:.0f} s; see {child.log}")
        if now - told > 15:
            told = now
            say(f"{engine}: still at work, {deadline - now:.0f} s left")
        time.sleep(poll_s)


class Outlet:
    """A topic that an engine writes to: how much stands in it, and what."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._topic = topic
        # In plain Python the checksums of a storm's anomalies take minutes, and every record is compared anyway.
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, check_crcs=False)
        found = self._consumer.partitions_for_topic(topic) or set()
        self._partitions = [TopicPartition(topic, p) for p in sorted(found)]

    def count(self) -> int:
        """Records in the topic."""
        return sum(self._consumer.end_offsets(self._partitions).values())

    def read(self) -> Iterator[Any]:
        """Every record that stands in it now."""
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning()
        left = self.count()
        while left > 0:
            for records in self._consumer.poll(timeout_ms=1000).values():
                left -= len(records)
                yield from records

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._consumer.close()


def flagged_by_peer(records: Iterator[Any]) -> dict[Key, Flagged]:
    """Flagged windows as the peers and the plain build send them: JSON with the columns of meter_windows."""
    found = {}
    for record in records:
        row = json.loads(record.value)
        found[_meter(row["meter_id"]), int(row["window_end_ms"])] = Flagged(row["base_n"], row["base_mean_v"])
    return found


def flagged_by_gridwatch(records: Iterator[Any]) -> dict[Key, Flagged]:
    """Window anomalies of the contract, type voltage_deviation."""
    found = {}
    for record in records:
        event = json.loads(record.value)
        if event["stage"] == "window" and event["anomalyType"] == "voltage_deviation":
            baseline = event["baseline"]
            found[_meter(event["meterId"]), event["eventTime"]] = Flagged(baseline["n"], baseline["mean"])
    return found


def compare(engine: str, found: Mapping[Key, Flagged], expected: Mapping[Key, Flagged]) -> None:
    """Raises WrongAnswer unless exactly the expected windows are flagged, each with the right baseline part."""
    if not expected:
        raise ValueError(f"{engine}: the load has no window to flag, so it proves nothing; take more readings a meter")
    missing, more = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or more:
        raise WrongAnswer(
            f"{engine}: {len(found)} flagged windows, {len(expected)} expected, {len(missing)} missing"
            f" {sorted(missing)[:3]}, {len(more)} too many {sorted(more)[:3]}"
        )
    for key, right in expected.items():
        if found[key].base_n != right.base_n or abs(found[key].base_mean_v - right.base_mean_v) > 1e-6:
            raise WrongAnswer(f"{engine}: window {key} has {found[key]}, expected {right}")


def engine_environment(**more: str) -> dict[str, str]:
    """Our environment without settings of somebody's own gridwatch, and with `more`."""
    kept = ("GRIDWATCH_CACHE", "GRIDWATCH_CONF_DIR")
    ours = {name: value for name, value in os.environ.items() if not name.startswith("GRIDWATCH_") or name in kept}
    root = str(Path(__file__).parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    return {**ours, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **more}


def _meter(meter_id: str) -> int:
    return int(meter_id.removeprefix("m"))
