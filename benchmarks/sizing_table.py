"""`python -m benchmarks sizing`: what fleets of up to 100 M meters need, by the model of `sizing`, as markdown."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.sizing import CannotFit, Coefficients, Point, compared, fit_all, usable
from pipelines.cli.output import say, show
from pipelines.errors import GridwatchError
from pipelines.settings import Detection, Settings

REPORT = Path(__file__).parents[1] / "docs" / "results" / "scale-2026-11-24.json"
FLEETS = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)

_TEXT = """Prints in markdown: the sizes of deployments, the coefficients they are computed from, and how far the model
is off at each measured point. The points are those of `python -m benchmarks scale --report FILE`."""
_DAY_S = 86_400


@dataclass(frozen=True)
class Assumed:
    """What no point has measured."""

    load: float = 0.5
    """Part of its cores, and of a task that cannot be divided, that is busy when all goes well: the rest catches up."""
    executor_cores: int = 4
    replication: int = 3
    alerts_cpu: float = 36.3
    """CPU s a million readings of the alerts job: 0.363 cores at 10,000/s in docs/results/steady-2026-11-23.json."""
    fewest_partitions: int = Settings().kafka.partitions
    state_memory_mib: float = 256
    """Of an executor that has both partitions of the state: RocksDB fills two buffers of 64 MiB each before it writes
    one out. No fleet of up to a million meters was measured with more (258 MB)."""
    archive_every_s: float = Settings().pipeline.archive_trigger
    kafka_retention_s: float = Settings().kafka.retention


@dataclass(frozen=True)
class Fleet:
    """What a fleet does in a second."""

    meters: float
    cadence_s: float

    @property
    def million_readings(self) -> float:
        """A second."""
        return self.meters / self.cadence_s / 1e6

    @property
    def slide_s(self) -> float:
        """Between two window ends."""
        return Detection(cadence_s=self.cadence_s).slide_s

    @property
    def million_windows(self) -> float:
        """Rows of meter_windows a second."""
        return self.meters / self.slide_s / 1e6


@dataclass(frozen=True)
class Sizes:
    """Of a whole deployment, but for the memories, which are of one driver and one executor, and `partitions`, `slots`
    and `executors`, which are of one pipeline. GB are 10^9 bytes, GiB 2^30."""

    meters: int
    readings_per_s: float
    pipelines: int
    partitions: int
    alerts_slots: int
    busy_cores: float
    executors: int
    executor_gib: int
    driver_gib: int
    state_gb: float
    lake_gb_day: float
    files_day: float
    kafka_gb: float
    network_mb_s: float


def size(meters: int, cadence_s: float, coefficients: Coefficients, largest: int, assumed: Assumed) -> Sizes:
    """What a fleet needs. `largest`: most meters that one pipeline was measured with; a larger fleet is divided by
    feeders among equal pipelines."""
    whole = Fleet(meters, cadence_s)
    pipelines = math.ceil(meters / most_meters(cadence_s, coefficients, largest, assumed))
    one, c = Fleet(meters / pipelines, cadence_s), coefficients
    cores, alerts = _cores(one, c, assumed), assumed.alerts_cpu * one.million_readings
    partitions = max(assumed.fewest_partitions, math.ceil(alerts / assumed.load))
    executors = max(1, math.ceil(cores / assumed.load / assumed.executor_cores))
    million_meters = one.meters / 1e6
    heap = c["heap"]["once"] + c["heap"]["million_meters"] * million_meters
    python = c["driver_python_memory"]
    python_mib = python["once"] + python["million_meters"] * million_meters
    python_mib += python["million_readings_a_batch"] * one.million_readings * assumed.archive_every_s
    rows = c["state"]["million_meters"] * million_meters
    state_mb = c["checkpoint"]["once"] + c["checkpoint"]["million_state_rows"] * rows
    lake_mb_s = c["readings_table"]["million_readings"] * whole.million_readings
    stored_mb_s = lake_mb_s + c["windows_table"]["million_windows"] * whole.million_windows
    kafka_mb_s = c["kafka"]["million_readings"] * whole.million_readings
    return Sizes(
        meters=meters,
        readings_per_s=whole.million_readings * 1e6,
        pipelines=pipelines,
        partitions=partitions,
        alerts_slots=partitions + 2,
        busy_cores=pipelines * (cores + alerts + c["broker_cpu"]["million_readings"] * one.million_readings),
        executors=executors,
        executor_gib=_gib(2 * heap + assumed.state_memory_mib, least=4),
        driver_gib=_gib(2 * heap + python_mib, least=2),
        state_gb=pipelines * state_mb / 1e3,
        lake_gb_day=stored_mb_s * _DAY_S / 1e3,
        files_day=pipelines * _files_per_s(one, c, assumed) * _DAY_S,
        kafka_gb=kafka_mb_s * assumed.kafka_retention_s * assumed.replication / 1e3,
        # In once, to the other replicas, out to archive and alerts; tables written, readings read again by the windows.
        network_mb_s=kafka_mb_s * (assumed.replication + 2) + stored_mb_s + lake_mb_s,
    )


def most_meters(cadence_s: float, coefficients: Coefficients, largest: int, assumed: Assumed) -> int:
    """Meters of one pipeline: no more than were measured, and so many that no single task is busier than assumed."""
    low, high = 1, largest
    while low < high:
        middle = (low + high + 1) // 2
        busy = max(undivided(Fleet(middle, cadence_s), coefficients).values())
        low, high = (middle, high) if busy <= assumed.load else (low, middle - 1)
    return low


def undivided(fleet: Fleet, coefficients: Coefficients) -> dict[str, float]:
    """Part of its time that each piece of work is busy which more executors do not shorten.

    What a batch costs whatever it holds is left out: batches grow longer as there is more to do.
    """
    readings, windows = fleet.million_readings, fleet.million_windows
    return {
        "write of readings": coefficients["readings_write"]["million_readings"] * readings,
        "write of meter_windows": coefficients["windows_write"]["million_windows"] * windows,
        "Python of the driver": coefficients["driver_python_cpu"]["million_readings"] * readings,
    }


def _cores(fleet: Fleet, c: Coefficients, assumed: Assumed) -> float:
    cpu = c["pipeline_cpu"]
    batches = 1 / assumed.archive_every_s + 1 / fleet.slide_s
    return (
        cpu["batch"] * batches
        + cpu["million_readings"] * fleet.million_readings
        + cpu["million_windows"] * fleet.million_windows
    )


def _files_per_s(fleet: Fleet, c: Coefficients, assumed: Assumed) -> float:
    """Before upkeep makes larger ones of them, those of the logs included."""
    return c["files"]["archive_batch"] / assumed.archive_every_s + c["files"]["windows_batch"] / fleet.slide_s


def _gib(mib: float, *, least: int) -> int:
    return max(least, math.ceil(mib / 1024))


def main(words: Sequence[str]) -> int:
    """Print the tables; 0, or 2 with one line on stderr for a report that cannot be used."""
    args = _parser().parse_args(words)
    try:
        points = read_points(args.report)
        show(markdown(points, args.meters, args.cadence))
        if args.also:
            show(f"\n## Points of {args.also.name}, on which nothing is fitted\n")
            show(as_markdown(compared(read_points(args.also), fit_all(points), fitted=False)))
    except GridwatchError as error:
        say(f"sizing: {error}")
        return 2
    except BrokenPipeError:  # who reads has read enough
        return 0
    return 0


def read_points(path: Path) -> list[Point]:
    """The points of a report. Raises CannotFit for a file that is none."""
    try:
        points: list[Point] = json.loads(path.read_text(encoding="utf-8"))["scale"]["points"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CannotFit(
            f"--report {path} is no report of fleets ({type(error).__name__}); write one with"
            " `python -m benchmarks scale --report FILE`"
        ) from None
    return points


def markdown(points: Sequence[Point], fleets: Sequence[int], cadence_s: float) -> str:
    """All tables. Raises CannotFit."""
    coefficients, assumed = fit_all(points), Assumed()
    largest = max(int(point["meters"]) for point in usable(points))
    sizes = [size(meters, cadence_s, coefficients, largest, assumed) for meters in fleets]
    limit = most_meters(cadence_s, coefficients, largest, assumed)
    busy = undivided(Fleet(limit, cadence_s), coefficients)
    known = sorted({float(point["cadence_s"]) for point in usable(points)})
    parts = [
        f"## Sizes at one reading every {cadence_s:g} s",
        *([] if cadence_s in known else [_guessed(cadence_s, known)]),
        as_markdown([{field.name: getattr(row, field.name) for field in fields(Sizes)} for row in sizes]),
        f"One pipeline takes {limit:,} meters here (measured with up to {largest:,}); busy part of its undivided work: "
        + ", ".join(f"{name} {part:.1%}" for name, part in busy.items())
        + ".",
        "## Assumed",
        as_markdown([{"assumed": field.name, "value": getattr(assumed, field.name)} for field in fields(Assumed)]),
        "## Coefficients",
        as_markdown([
            {"quantity": name, "term": term, "coefficient": value}
            for name, terms in coefficients.items()
            for term, value in terms.items()
        ]),
        "## Measured and modelled",
        as_markdown(compared(points, coefficients)),
    ]  # fmt: skip
    return "\n\n".join(parts)


def _guessed(cadence_s: float, known: Sequence[float]) -> str:
    listed = ", ".join(f"{one:g}" for one in known)
    return (
        f"**A guess**: no point was read every {cadence_s:g} s, only every {listed} s. At"
        " one cadence readings and windows grow together, so which of them the CPU goes to is not known, and cores,"
        " executors and pipelines can be too few by several times. Measure points with `python -m benchmarks scale"
        f" --meters 1000@{cadence_s:g},10000@{cadence_s:g}` first."
    )


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same fields as a table.

    >>> print(as_markdown([{"meters": 10000, "busy_cores": 0.25}]))
    | meters | busy cores |
    |---|---|
    | 10,000 | 0.25 |
    """
    names = list(rows[0])
    lines = [[name.replace("_", " ") for name in names], ["---"] * len(names)]
    lines += [[_cell(row[name]) for name in names] for row in rows]
    head, rule, *body = lines
    return "\n".join([_line(head), f"|{'|'.join(rule)}|", *map(_line, body)])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any) -> str:
    """Whole numbers in full, others with three digits.

    >>> [_cell(value) for value in (True, 1234, 1234.5, 0.12345, 12.345, 0.0, "s")]
    ['yes', '1,234', '1,234', '0.123', '12.3', '0', 's']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if not value:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks sizing", description=_TEXT)
    parser.add_argument(
        "--meters", metavar="N,...", type=_listed, default=list(FLEETS), help="fleets (default: 10,000 to 100 million)"
    )
    parser.add_argument(
        "--cadence", metavar="S", type=_between(1, 3600), default=60.0,
        help="seconds between two readings of a meter, 1 to 3600 (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        default=REPORT,
        help=f"measured points (default: docs/results/{REPORT.name})",
    )
    parser.add_argument(
        "--also", metavar="FILE", type=Path, help="compare the model with the points of another report too"
    )
    return parser


def _between(low: float, high: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    number.__name__ = f"number from {low:g} to {high:g}"
    return number


def _listed(text: str) -> list[int]:
    return [int(_between(100, 1e9)(meters)) for meters in text.split(",")]


_listed.__name__ = "list of numbers from 100 to 1000000000, joined by commas"
