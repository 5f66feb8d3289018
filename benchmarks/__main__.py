"""`python -m benchmarks smoke|drain|peers|steady|idle|state|recovery|soak|scale|all --report FILE`, and `sizing`."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import sizing_table, suite
from benchmarks.candidates import Place
from benchmarks.idle import WARM_UP_S
from benchmarks.load import SEED
from benchmarks.machine import command, commit, machine, versions
from benchmarks.report import as_json, as_text
from benchmarks.scale import Fleet
from benchmarks.soak import picture
from pipelines.errors import GridwatchError
from pipelines.local.broker import start_broker
from pipelines.local.processes import LocalParts

_TEXT = """Measures gridwatch and, with `peers`, other engines over the same topics of a real Kafka broker. Every run's
answer is compared with a model in numpy before a figure is reported. `smoke` fails on a wrong answer only, never on a
slow machine. `idle` is a fleet of 10,000 meters read once a minute. `soak` runs pipeline and alerts for an hour at
2,000 readings/s and follows memory, files and lag. `scale` lets the pipeline work off some minutes of fleets of up to
a million meters; what FILE holds of other fleets stays in it. `all` leaves smoke, soak and scale out. `sizing --help`
computes from the points of `scale` what other fleets need."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark, print its table and write the report; 0 when every answer was right."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["sizing"]:  # measures nothing, needs no broker
        return sizing_table.main(words[1:])
    args = _parser().parse_args(words)
    folder = (args.dir or Path(tempfile.mkdtemp(prefix="gridwatch-bench-"))).resolve()
    started, sizes = time.monotonic(), replace(suite.QUICK if args.quick else suite.FULL, seed=args.seed)
    if args.seconds:
        sizes = replace(
            sizes, steady_s=args.seconds, storm_s=0, idle_s=args.seconds, soak_s=args.seconds, scale_s=args.seconds
        )  # fmt: skip
    if args.warm_up is not None:
        sizes = replace(sizes, idle_warm_s=args.warm_up)
    sizes = replace(sizes, driver_memory=args.driver_memory, scale=args.meters or sizes.scale)

    def say(line: str) -> None:
        sys.stderr.write(f"[{time.monotonic() - started:6.1f} s] {line}\n")
        sys.stderr.flush()

    report: dict[str, Any] = {
        "command": command("benchmarks", words),
        "seed": sizes.seed, "commit": commit(), "machine": machine(), "versions": versions(),
    }  # fmt: skip
    if args.name == "scale" and args.report and args.report.exists():
        report["scale"] = json.loads(args.report.read_text(encoding="utf-8"))["scale"]
    try:
        with LocalParts() as parts:
            broker = parts.add(start_broker(folder / "broker", heap_mb=768, say=say))
            place = Place(broker.bootstrap_servers, folder, say)
            suite.run(args.name, place, sizes, report, broker.pid)
    except GridwatchError as error:
        report["error"] = str(error)
        say(f"failed: {error}")
    except KeyboardInterrupt:
        report["error"] = "interrupted"
    report["seconds"] = round(time.monotonic() - started, 1)
    if args.report:
        args.report.write_text(as_json(report), encoding="utf-8")
        curves = args.report.with_suffix(".png")
        if "soak" in report and picture(report["soak"], curves):
            say(f"curves: {curves}")
    sys.stdout.write(as_text(report) + "\n")
    if args.dir or "error" in report:
        say(f"logs and data: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return 130 if report.get("error") == "interrupted" else int("error" in report)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=_TEXT)
    parser.add_argument(
        "name",
        choices=suite.NAMES,
        help="what to measure; all: everything but smoke, soak and scale; `sizing --help`: no measurement",
    )
    parser.add_argument(
        "--report", metavar="FILE", type=Path, help="write the report there as JSON; soak: its curves beside it, as PNG"
    )
    parser.add_argument("--quick", action="store_true", help="a third of the sizes, for a first look")
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=int,
        help="steady, idle, soak: so long; steady: without a storm; scale: most seconds of a fleet's drain",
    )
    parser.add_argument(
        "--warm-up", metavar="S", type=int, help=f"idle: traffic before it is measured (default: {WARM_UP_S} s)"
    )
    parser.add_argument(
        "--meters",
        metavar="N[@S],...",
        type=_fleets,
        help="scale: fleets, each of N meters read every S seconds (default: 1000,10000,100000,1000000, every 60 s)",
    )
    parser.add_argument(
        "--driver-memory", metavar="HEAP", help="scale: pipeline.driver_memory (default: the setting's)"
    )
    parser.add_argument("--seed", type=int, default=SEED, help=f"seed of the readings (default: {SEED})")
    parser.add_argument("--dir", metavar="DIR", type=Path, help="folder of the run; kept (default: a new one)")
    return parser


def _fleets(text: str) -> tuple[Fleet, ...]:
    try:
        return tuple(map(Fleet.of, text.split(",")))
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{error}; write such as 1000,10000@30: 100 to 1000000 meters, each with its cadence of 1 to 3600 s"
        ) from None


if __name__ == "__main__":
    sys.exit(main())
