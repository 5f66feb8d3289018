"""What the job takes of its machine: the JVM beside Python, disk, and the checkpoint's files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_HEAP = "gridwatch_jvm_heap_bytes"


@dataclass(frozen=True)
class JvmSample:
    """What only the JVM itself knows: heap in bytes (`used`, `committed`, `max`), collections and their seconds by
    collector, live threads."""

    heap: Mapping[str, int]
    gc_seconds: Mapping[str, float]
    gc_runs: Mapping[str, int]
    threads: int


def sample_jvm(jvm: Any) -> JvmSample:
    """Ask the JVM of a Spark session; some twenty calls. Blocks as long as the JVM hangs."""
    factory = jvm.java.lang.management.ManagementFactory
    usage = factory.getMemoryMXBean().getHeapMemoryUsage()
    collectors = list(factory.getGarbageCollectorMXBeans())
    names = [str(collector.getName()).replace(" ", "_") for collector in collectors]
    return JvmSample(
        {"used": usage.getUsed(), "committed": usage.getCommitted(), "max": usage.getMax()},
        {name: one.getCollectionTime() / 1000 for name, one in zip(names, collectors, strict=True)},
        {name: one.getCollectionCount() for name, one in zip(names, collectors, strict=True)},
        factory.getThreadMXBean().getThreadCount(),
    )


@dataclass(eq=False)
class Resources(Collector):
    """Serves the newest samples. CPU, memory and disk are read at the scrape: no answer of the JVM is needed.

    `places`: folders whose disk is shown, by label; a place in an object store has none.
    """

    places: Mapping[str, str]
    pid: int | None = None
    jvm: JvmSample | None = None
    checkpoint: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Bytes and files below the checkpoint, by query."""

    def describe(self) -> Iterator[Metric]:
        """Named when collected; none of them collides with a family of `metrics`."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """All that is known now."""
        yield from _process(self.pid)
        yield from _disk(self.places)
        if self.jvm:
            yield from _jvm(self.jvm)
        size = GaugeMetricFamily("gridwatch_checkpoint_bytes", "Size of a query's checkpoint.", labels=["query"])
        count = GaugeMetricFamily("gridwatch_checkpoint_files", "Files of a query's checkpoint.", labels=["query"])
        for query, (taken, files) in dict(self.checkpoint).items():
            size.add_metric([query], taken)
            count.add_metric([query], files)
        yield from (size, count)


def _process(pid: int | None) -> Iterator[Metric]:
    """CPU and memory of the JVM, from /proc; nothing where there is none."""
    try:
        # The name of the program, in parentheses, may hold spaces.
        found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    cpu = CounterMetricFamily("gridwatch_jvm_cpu_seconds", "CPU time of the JVM, user and system.")
    cpu.add_metric([], (int(found[11]) + int(found[12])) / _TICKS)
    memory = GaugeMetricFamily("gridwatch_jvm_resident_memory_bytes", "Resident memory of the JVM.")
    memory.add_metric([], int(found[21]) * _PAGE)
    yield from (cpu, memory)


def _disk(places: Mapping[str, str]) -> Iterator[Metric]:
    free = GaugeMetricFamily("gridwatch_disk_free_bytes", "Free space where a place lies.", labels=["place"])
    size = GaugeMetricFamily("gridwatch_disk_size_bytes", "Size of the disk where a place lies.", labels=["place"])
    for name, path in places.items():
        try:
            usage = shutil.disk_usage(path)
        except OSError:  # not made yet, or in an object store
            continue
        free.add_metric([name], usage.free)
        size.add_metric([name], usage.total)
    yield from (free, size)


def _jvm(sample: JvmSample) -> Iterator[Metric]:
    heap = GaugeMetricFamily(_HEAP, "Heap of the JVM: used, committed, max.", labels=["state"])
    for state, size in sample.heap.items():
        heap.add_metric([state], size)
    spent = CounterMetricFamily("gridwatch_jvm_gc_seconds", "Time in garbage collection.", labels=["collector"])
    runs = CounterMetricFamily("gridwatch_jvm_gc_runs", "Garbage collections.", labels=["collector"])
    for name, seconds in sample.gc_seconds.items():
        spent.add_metric([name], seconds)
        runs.add_metric([name], sample.gc_runs[name])
    threads = GaugeMetricFamily("gridwatch_jvm_threads", "Live threads of the JVM.")
    threads.add_metric([], sample.threads)
    yield from (heap, spent, runs, threads)


def folder_size(folder: Path) -> tuple[int, int]:
    """Bytes and files below a folder; a file that vanishes meanwhile does not count.

    >>> folder_size(Path("/nowhere"))
    (0, 0)
    """
    taken = count = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                taken += os.stat(os.path.join(place, name)).st_size
            except OSError:
                continue
            count += 1
    return taken, count


def checkpoint_sizes(checkpoint: str, folders: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """`folder_size` of each query's folder below the checkpoint; empty for one in an object store."""
    if "://" in checkpoint:
        return {}
    return {query: folder_size(Path(checkpoint, folder)) for query, folder in folders.items()}
