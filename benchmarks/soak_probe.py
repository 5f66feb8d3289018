"""One sample of a running deployment, in figures: processes, heaps, lag, tables, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Self
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from benchmarks.live import JOBS, Live
from benchmarks.load import PARTITIONS
from benchmarks.soak_lake import Content, Contents, checkpoint_files, objects
from benchmarks.trees import processes, tree
from pipelines.local.ports import LOOPBACK
from pipelines.observe.lag import BrokerEnds
from pipelines.tables import READINGS, REJECTED, TABLES

Row = dict[str, float | int | None]
"""One sample: figures by name. None is one that could not be had."""

_HEAP, _MAINTAINED = "gridwatch_jvm_heap_bytes", "gridwatch_maintained_files_total"
_PATIENCE_S = 3.0
_MIB = 2**20


@dataclass
class Probe:
    """Looks at a deployment from outside. Files are counted in folders, so the lake must be one."""

    live: Live
    broker: int
    """Process id of the broker."""
    rows: list[Row] = field(default_factory=list)
    maintained: dict[tuple[str, str], int] = field(default_factory=dict)
    """Files that upkeep has changed so far, by table and what was done."""
    _began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self._contents = Contents(self.live.settings)
        self._ends = BrokerEnds(self.live.settings.kafka)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    @property
    def passed_s(self) -> float:
        """Seconds since the probe was made."""
        return time.monotonic() - self._began

    def take(self) -> Row:
        """One sample, kept in `rows`. `seconds` is when it began, `sampler_cpu_s` the CPU time it took of ours.

        The tables are asked before Kafka, so the lag is never too small.
        """
        row: Row = {"seconds": round(self.passed_s, 1)}
        used = time.process_time()
        row |= self._processes()
        row |= self._heaps()
        lake, archived = self._lake()
        row |= {"lag": self._lag(archived)} | lake
        files = checkpoint_files(Path(self.live.settings.pipeline.checkpoint))
        row |= {f"checkpoint.{kind}": count for kind, count in files.items()}
        row["sampler_cpu_s"] = round(time.process_time() - used, 3)
        self.rows.append(row)
        return row

    def _processes(self) -> Row:
        known, row = processes(), Row()
        pids = {name: self.live.jobs[command].pid for command, name in JOBS.items()}
        for name, pid in {**pids, "broker": self.broker}.items():
            found = tree(pid, known)
            row |= {f"rss_mib.{name}": found.rss_mib, f"fds.{name}": found.fds, f"threads.{name}": found.threads}
        return row

    def _heaps(self) -> Row:
        """Used heap of each JVM, garbage included: only a rising low says anything."""
        metrics, row = self.live.settings.metrics, Row()
        for name, port in {"pipeline": metrics.port, "alerts": metrics.alerts_port}.items():
            found = scrape(port)
            heap = [sample.value for sample in found if sample.name == _HEAP and sample.labels["state"] == "used"]
            row[f"heap_mib.{name}"] = round(heap[0] / _MIB, 1) if heap else None
            for sample in found:
                if sample.name == _MAINTAINED:
                    self.maintained[sample.labels["table"], sample.labels["what"]] = int(sample.value)
        return row

    def _lake(self) -> tuple[Row, int | None]:
        """Figures of every table and of all together, and the records that the archive has stored."""
        row, contents = Row(), dict[str, Content | None]()
        data = log = taken = 0
        for table in TABLES.values():
            found = objects(Path(self.live.settings.lake.root, table.name))
            data, log, taken = data + found.data, log + found.log, taken + found.bytes
            content = contents[table.name] = self._contents.of(table)
            row |= figures_of(table.name, content) | {f"{table.name}.log": found.log}
        live = sum(content.files for content in contents.values() if content)
        total: Row = {"files.live": live, "files.data": data, "files.log": log, "lake_mib": round(taken / _MIB, 1)}
        accepted, rejected = contents[READINGS.name], contents[REJECTED.name]
        return total | row, accepted.rows + rejected.rows if accepted and rejected else None

    def _lag(self, archived: int | None) -> int | None:
        topic = self.live.settings.kafka.topics.readings
        ends = self._ends.ask({(topic, partition) for partition in range(PARTITIONS)})
        return None if ends is None or archived is None else sum(ends.values()) - archived


def figures_of(table: str, content: Content | None) -> Row:
    """What the log of a table says, by name.

    >>> figures_of("audit", Content(files=3, bytes=1 << 20, rows=12, version=4))
    {'audit.files': 3, 'audit.mib': 1.0, 'audit.version': 4}
    """
    if content is None:
        return {f"{table}.files": None, f"{table}.mib": None, f"{table}.version": None}
    return {
        f"{table}.files": content.files,
        f"{table}.mib": round(content.bytes / _MIB, 2),
        f"{table}.version": content.version,
    }


def scrape(port: int, names: tuple[str, ...] = (_HEAP, _MAINTAINED)) -> list[Sample]:
    """Samples of these names from a job on this machine; nothing when it does not answer."""
    try:
        with urlopen(f"http://{LOOPBACK}:{port}/metrics", timeout=_PATIENCE_S) as answer:
            text = answer.read().decode()
    except (OSError, HTTPException):
        return []
    return list(samples_in(text.splitlines(), names))


def samples_in(lines: Iterable[str], names: tuple[str, ...] = (_HEAP, _MAINTAINED)) -> Iterator[Sample]:
    """Samples of these names; the others, which are many, are not parsed."""
    prefixes = tuple(f"{name}{{" for name in names)
    wanted = "\n".join(line for line in lines if line.startswith(prefixes))
    for family in text_string_to_metric_families(f"{wanted}\n"):
        yield from family.samples
