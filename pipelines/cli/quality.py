"""The command quality: one day of the archive through the data quality gate."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import painted, say, say_timed, show
from pipelines.cli.render import as_table
from pipelines.errors import DataRefused
from pipelines.places import require_writable_folder

if TYPE_CHECKING:
    from pipelines.quality.gate import Verdict
    from pipelines.quality.judge import Outcome

_REPORTS = Path("runs/quality")
_EPILOG = """Needs the extra `quality` (Great Expectations). Runs beside the pipeline without Spark: DuckDB reads the
day. Every expectation and its meaning: docs/quality.md. Results are appended to the table quality_results; HTML data
docs go to DIR/DAY.

exit codes: 0 the day passes (warnings do not count), 2 settings or usage, 3 an expectation of severity fail is
broken or the day has no readings, 4 infrastructure not reachable, 130 interrupted."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands,
        "quality",
        "Judge a day of the archive: is it whole, stored once, in the right units, as audited?",
        quality,
    )
    parser.add_argument("--day", metavar="YYYY-MM-DD", help="day of event time, UTC (default: yesterday)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument(
        "--report-dir",
        metavar="DIR",
        type=Path,
        default=_REPORTS,
        help="folder of the HTML data docs (default: %(default)s)",
    )
    parser.epilog = _EPILOG


def quality(args: argparse.Namespace) -> int:
    """Print the verdict. Raises DataRefused when the day fails."""
    from pipelines.quality.day import parse_day
    from pipelines.quality.gate import run_gate

    settings = settings_of(args).settings
    day = parse_day(args.day, datetime.now(UTC))
    docs = args.report_dir / str(day)
    require_writable_folder("--report-dir", docs)
    try:
        verdict = run_gate(settings, day, docs=docs, say=say_timed)
    except DataRefused as refusal:
        if args.json:
            show(json.dumps({"day": str(day), "ok": False, "error": str(refusal)}, indent=2, ensure_ascii=False))
        raise
    if args.json:
        show(json.dumps(verdict.to_json(), indent=2, ensure_ascii=False))
    else:
        show(painted(as_text(verdict), {"fail": "red", "warn": "yellow"}))
    say(f"data docs: {docs / 'index.html'}")
    if not verdict.ok:
        names = ", ".join(f"{one.suite}.{one.check.name}" for one in verdict.failed)
        raise DataRefused(f"{day} fails {len(verdict.failed)} of {len(verdict.outcomes)} expectations: {names}")
    return 0


def as_text(verdict: Verdict) -> str:
    """What is broken, then one line for all."""
    broken = [*verdict.failed, *verdict.warned]
    rows = [[f"{one.suite}.{one.check.name}", one.check.severity, found(one), one.check.meaning] for one in broken]
    table = as_table(["expectation", "severity", "found", "on a good day"], rows) + "\n" if rows else ""
    return (
        f"{table}{verdict.day}: {verdict.readings} readings, {len(verdict.outcomes)} expectations,"
        f" {len(verdict.failed)} failed, {len(verdict.warned)} warnings, {verdict.seconds:.1f} s"
    )


def found(one: Outcome) -> str:
    """What breaks an expectation: how many rows and the first of them."""
    if one.error:
        return f"could not be judged: {one.error}"
    if one.unexpected is None:
        return f"observed {one.observed}"
    first = ", ".join(f"{name}={value}" for name, value in (one.examples[0] if one.examples else {}).items())
    return f"{one.unexpected} of {one.rows} rows" + (f", such as {first}" if first else "")
