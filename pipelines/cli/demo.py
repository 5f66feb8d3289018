"""Command demo: the whole pipeline on one machine, with a report."""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.init import settings_text
from pipelines.cli.output import say_timed, show
from pipelines.errors import SettingsError
from pipelines.places import require_writable_file

if TYPE_CHECKING:
    from pipelines.cli.arguments import Commands
    from pipelines.local.demo_report import DemoReport

_TEXT = """Run the main job on this machine: a real Kafka broker (and MinIO with --store minio), the pipeline and
its alerts, and simulated meters with labelled faults. Event time runs faster than the clock on
the wall (rate x 10 s / meters, 40 times by default), so a minute shows more than half an hour of grid life. Then every
reading is reconciled and a report printed. Everything it started is stopped at the end.

While it runs, the console shows it: open the address that is printed in a browser on this machine. With --hold broker,
tables and console stay until Ctrl-C, so that there is time to look."""

_SETTINGS = "gridwatch.toml"
"""In the folder of a run: the settings that its jobs had."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo", help="Run the main job on one machine, with faults injected.", description=_TEXT
    )
    parser.set_defaults(command=demo)
    parser.add_argument("--seconds", type=float, default=60, help="wall seconds of traffic (default: 60)")
    parser.add_argument("--rate", type=float, default=2000, help="readings a second (default: 2000)")
    parser.add_argument("--meters", type=int, default=500, help="meters (default: 500)")
    parser.add_argument("--store", choices=("local", "minio"), default="local", help="where the tables are")
    parser.add_argument("--seed", type=int, default=7, help="seed of grid and faults (default: 7)")
    parser.add_argument("--report", metavar="FILE", type=Path, help="write the report there as JSON")
    parser.add_argument("--keep", action="store_true", help="keep tables, topics' data and logs")
    parser.add_argument("--dir", metavar="DIR", type=Path, help="folder of the run; kept (default: a new one)")
    parser.add_argument("--hold", action="store_true", help="at the end keep broker and console until Ctrl-C")
    parser.add_argument("--no-console", action="store_true", help="do without the operator's page")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def demo(args: argparse.Namespace) -> int:
    """Run the demo and print its report; exit code 0 only when `ok`."""
    from pipelines.local.demo import Demo, DemoOptions

    _check(args)
    keep = args.keep or args.dir is not None
    run_dir = (args.dir or Path(tempfile.mkdtemp(prefix="gridwatch-demo-"))).resolve()
    options = DemoOptions(
        args.seconds, args.rate, args.meters, args.store, args.seed, run_dir, console=not args.no_console
    )
    run = Demo(options, say_timed)
    report = None

    def tell(found: DemoReport, page: str | None) -> None:
        document = json.dumps(asdict(found) | {"ok": found.ok}, indent=2)
        if args.report:
            args.report.write_text(document + "\n", encoding="utf-8")
        (run_dir / _SETTINGS).write_text(settings_text(run.assignments()) + "\n", encoding="utf-8")
        show(document if args.json else _as_text(found))
        if args.hold:
            _hold(page)

    try:
        report = run.run(tell)
    finally:
        if keep or report is None:
            say_timed(f"logs and data: {run_dir}")
        else:
            shutil.rmtree(run_dir, ignore_errors=True)
    if not args.json:
        show(_next_steps(run_dir if keep and args.store == "local" else None))
    return 0 if report.ok else 3


def _hold(page: str | None) -> None:
    """Wait for Ctrl-C; what runs goes on meanwhile."""
    say_timed(f"all of it stays until Ctrl-C{f'; the console is at {page}' if page else ''}")
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say_timed("stopping")


def _check(args: argparse.Namespace) -> None:
    if args.seconds < 10:
        raise SettingsError(f"--seconds {args.seconds:g}: at least 10 are needed for a window to close")
    if args.rate <= 0 or args.meters <= 0:
        raise SettingsError(f"--rate {args.rate:g} --meters {args.meters}: both must be above 0")
    if args.rate * 10 < args.meters:
        raise SettingsError(
            f"--rate {args.rate:g} is too low for {args.meters} meters every 10 s: {args.meters / 10:g} or more"
        )
    if args.report and not (args.dir and args.report.resolve().parent == args.dir.resolve()):  # the run makes that one
        require_writable_file("--report", args.report)
    if args.dir and any((args.dir / part).exists() for part in ("lake", "broker", "checkpoint")):
        raise SettingsError(f"--dir {args.dir} holds an earlier run: name another folder or remove it")


def _as_text(report: DemoReport) -> str:
    latency = report.latency_ms
    in_time = "; the others came before their windows had closed" if report.late < report.labels["late"] else ""
    lines = [
        "",
        f"produced    {report.produced:>9,}   records acknowledged by Kafka",
        f"archived    {report.archived:>9,}   readings in the table readings",
        f"rejected    {report.rejected:>9,}   in the table rejected and the dead-letter queue"
        f" (labelled: {sum(report.labels['rejected'].values()):,})",
        f"late        {report.late:>9,}   flagged, kept out of the windows"
        f" (labelled: {report.labels['late']:,}{in_time})",
        f"re-sent     {report.resent:>9,}   flagged, kept out of the windows (labelled: {report.labels['resent']:,})",
        f"duplicates  {report.duplicates:>9,}",
        f"unaccounted {report.unaccounted:>9,}",
        f"anomalies   {sum(report.anomalies.values()):>9,}   "
        + ", ".join(f"{name} {count}" for name, count in report.anomalies.items()),
        f"incidents   {report.incidents['opened']:>9,}   {report.incidents['closed']} closed,"
        f" {report.incidents['open']} open",
        f"faults      {report.faults['injected']:>9,}   injected, {report.faults['detected']} detected"
        f" (recall {report.faults['recall']}, precision of incidents {report.faults['precision']})",
    ]
    for stage in ("reading", "window"):
        figures = latency[stage]
        if figures["n"]:
            lines.append(
                f"{stage + ' anomalies after':28} p50 {figures['p50']:,.0f} ms, p90 {figures['p90']:,.0f} ms,"
                f" p99 {figures['p99']:,.0f} ms, max {figures['max']:,.0f} ms"
                f" ({figures['n']:,} of them)"
            )
    return "\n".join([*lines, f"{report.seconds:.0f} s in all, store {report.store}: ok {str(report.ok).lower()}"])


def _next_steps(run_dir: Path | None) -> str:
    """What a new user does next; with the tables of the run, when they are kept."""
    lines = ["", "Next:"]
    if run_dir:
        ask = f"gridwatch sql --settings {run_dir / _SETTINGS}"
        lines += [
            "  ask the tables that are kept:",
            f'    {ask} "SELECT anomaly_type, severity, count(*) FROM anomalies GROUP BY ALL ORDER BY 3 DESC"',
            f'    {ask} "SELECT opened_at, meter_id, family, severity, status, message FROM incidents ORDER BY 1"',
            f'    {ask} "SELECT * FROM audit ORDER BY batch_id"',
        ]
    else:
        lines += ["  keep the tables and look at them:   gridwatch demo --dir runs/demo --hold"]
    lines += [
        "  your own Kafka and S3:              gridwatch init my.toml     # a settings file with every line explained",
        "                                      gridwatch check --settings my.toml",
        "                                      gridwatch topics create --settings my.toml",
        "                                      gridwatch run --settings my.toml",
        "                                      gridwatch console --settings my.toml",
    ]
    return "\n".join(lines)
