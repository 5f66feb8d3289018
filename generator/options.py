"""The command line: options in, a plan and a destination out."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from generator.errors import UsageError
from generator.kinds import KINDS
from generator.plan import FLEETS, GRIDS, RunPlan, make_plan, read_plan

DEFAULT_RUN_DIR = "runs/generator"
PLAN_OPTIONS = frozenset(field.name for field in fields(RunPlan)) | {"end_ms"}
SERVERS_ENV = "GRIDWATCH_KAFKA__BOOTSTRAP_SERVERS"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError("command line", message, "see --help", "correct the options")


def parse(argv: list[str] | None, environment: Mapping[str, str]) -> argparse.Namespace:
    """Return the options; those that shape the plan are present only when given. Raises UsageError.

    Without --out the servers come from --bootstrap-servers or the environment.
    """
    args, unknown = _parser().parse_known_args(argv)
    if unknown and unknown[0].partition("=")[0] in ("--settings", "--set"):
        allowed = f"{SERVERS_ENV} in the environment, or --bootstrap-servers and --topic"
        raise UsageError("generate", f"{unknown[0]}, which it does not take", allowed, "leave the settings out")
    if unknown:
        _parser().error(f"unrecognized arguments: {' '.join(unknown)}")
    given = _plan_options(args)
    if args.plan and given:
        names = ", ".join("--" + name.replace("_", "-") for name in sorted(given))
        raise UsageError("--plan", f"it together with {names}", "--plan alone", "leave the others out")
    if args.plan and args.plan_only:
        raise UsageError("--plan-only", "it together with --plan", "one of both", "leave one out")
    if args.out and args.bootstrap_servers:
        raise UsageError("--out", "it together with --bootstrap-servers", "one of both", "leave one out")
    if args.raw and not args.out:
        raise UsageError("--raw", "it without --out", "only with --out", "give --out DIR or leave --raw out")
    args.bootstrap_servers = args.bootstrap_servers or (None if args.out else environment.get(SERVERS_ENV))
    if not (args.out or args.bootstrap_servers or args.plan_only):
        allowed = "--out DIR or --bootstrap-servers HOST:PORT"
        raise UsageError("destination", "none", allowed, "give one of both")
    return args


def plan_from(args: argparse.Namespace) -> RunPlan:
    """Return the plan the options ask for: read from --plan, or made for a start now. Raises UsageError."""
    if args.plan:
        return read_plan(args.plan)
    return make_plan(int(time.time() * 1000), paced=not args.out, **_plan_options(args))


def run_folder(args: argparse.Namespace) -> Path:
    """Return the folder for fleet, labels, transport lines and summary."""
    return Path(args.run_dir or args.out or DEFAULT_RUN_DIR)


def _plan_options(args: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(args).items() if name in PLAN_OPTIONS}


def _iso_ms(text: str) -> int:
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000)


_iso_ms.__name__ = "ISO time"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="generator", allow_abbrev=False,
        description="Simulated smart meters with labelled faults, to Kafka by the clock or to files at once.",
    )  # fmt: skip
    _add_shape(parser.add_argument_group("the run"))
    _add_faults(parser.add_argument_group("faults"))
    _add_destination(parser.add_argument_group("where to"))
    return parser


def _add_shape(group: argparse._ArgumentGroup) -> None:
    def add(name: str, kind: Any, text: str, **more: Any) -> None:
        group.add_argument(name, type=kind, default=argparse.SUPPRESS, help=text, **more)

    add("--meters", int, "number of meters (500)")
    add("--rate", float, "readings per wall second (meters / cadence, i.e. real time)")
    add("--seconds", float, "wall seconds of data, closing readings come on top (60)")
    add("--cadence", float, "seconds between two readings of a meter (10)", dest="cadence_s")
    add("--seed", int, "same seed and options, same data (7)")
    add("--start", _iso_ms, "first event time, ISO, UTC unless it says otherwise", dest="start_ms")
    add("--end", _iso_ms, "end of the data, ISO (derived from now)", dest="end_ms")
    add("--meters-per-feeder", int, "size of a feeder (50)")
    add("--grid", str, f"how far loads pull the voltage: {', '.join(GRIDS)} (mixed)")
    add("--nominal-voltage", float, "nominal voltage in V (230)", dest="nominal_voltage_v")
    add("--fleet", str, f"{' or '.join(FLEETS)}: 230 V, 120 V and transformers of 400 V (uniform)")
    add("--watermark", float, "watermark of the consumer in seconds of event time (10)", dest="watermark_s")
    group.add_argument(
        "--no-topology", action="store_false", dest="has_topology", default=argparse.SUPPRESS,
        help="the fleet file knows no feeders and phases; only faults of meters are drawn",
    )  # fmt: skip
    group.add_argument("--plan", metavar="FILE", help="run the plan.json that --plan-only wrote")
    group.add_argument("--plan-only", action="store_true", help="write fleet, labels, plan.json; no data")


def _add_faults(group: argparse._ArgumentGroup) -> None:
    def add(name: str, kind: Any, text: str, **more: Any) -> None:
        group.add_argument(name, type=kind, default=argparse.SUPPRESS, help=text, **more)

    add(
        "--faults",
        str,
        f"none, demo (default), all, pilot (of single meters), or kinds joined by commas: {', '.join(KINDS)}",
    )
    add("--faults-per-meter-day", float, "faults per meter and day, for long runs (2 of each kind)")
    add("--late-by", float, "seconds of event time a late record is held back (300)", dest="late_by_s")
    add("--late-share", float, "part of readings that are late (0.003)")
    add("--duplicate-share", float, "part of readings sent twice (0.005)")
    add("--out-of-order-share", float, "part of readings overtaken by others (0.01)")
    add("--malformed-share", float, "malformed records, as a part of readings (0.003)")
    group.add_argument("--no-transport-faults", action="store_true", help="only good records, in time")


def _add_destination(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="DIR", help="write readings.parquet and all else here, at once")
    group.add_argument("--raw", action="store_true", help="with --out: also raw.jsonl.gz, records as sent")
    group.add_argument("--bootstrap-servers", metavar="HOST:PORT", help="send to this Kafka by the clock")
    group.add_argument("--topic", default="sensor-readings", help="Kafka topic (%(default)s)")
    group.add_argument(
        "--run-dir", metavar="DIR", help=f"fleet, labels, transport, summary (--out or {DEFAULT_RUN_DIR})"
    )
    group.add_argument("--quiet", action="store_true", help="no progress on stderr")
