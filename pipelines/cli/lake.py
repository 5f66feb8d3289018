"""Commands over the tables: sql, verify."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say, show
from pipelines.cli.render import FORMATS, as_table, render
from pipelines.errors import DataRefused, SettingsError
from pipelines.lake_views import VIEWS
from pipelines.places import no_file, require_writable_file

if TYPE_CHECKING:
    from pipelines.reconcile.report import VerifyReport
    from pipelines.settings import Settings

_PLAN = ["explain_key", "explain_value"]
"""Columns of DuckDB's EXPLAIN, whose one value is a drawing."""


def register(commands: Commands) -> None:
    """Add the commands."""
    verify_parser = add_command(
        commands,
        "verify",
        "Reconcile Kafka's offsets with readings + rejected: lost, duplicate, unaccounted.",
        verify,
    )
    verify_parser.add_argument("--report", metavar="FILE", type=Path, help="also write the report there as JSON")
    verify_parser.add_argument("--json", action="store_true", help="print the report as JSON")
    sql_parser = add_command(commands, "sql", "SQL over the tables; nothing is written. Times are UTC.", sql)
    sql_parser.add_argument("query", metavar="SQL", nargs="?", help='for example "SELECT count(*) FROM readings"')
    sql_parser.add_argument("--views", action="store_true", help="list the views for common questions")
    sql_parser.add_argument(
        "--script", action="store_true", help="print what makes tables and views in the programs duckdb or spark-sql"
    )
    sql_parser.add_argument("--engine", choices=("duckdb", "spark"), default="duckdb", help="default: duckdb")
    sql_parser.add_argument("--format", choices=FORMATS, default="table", help="default: table")


def sql(args: argparse.Namespace) -> int:
    """Print the rows of a query."""
    if args.views:
        show(as_table(["view", "answers"], [[view.name, view.question] for view in VIEWS]))
        return 0
    settings = settings_of(args).settings
    if args.script:
        show(_script(settings, args.engine))
        return 0
    if not args.query:
        raise SettingsError('a query is missing, for example "SELECT * FROM open_incidents"')
    ask = _ask_spark if args.engine == "spark" else _ask_duckdb
    names, rows = ask(settings, args.query)
    is_plan = names == _PLAN and args.format == "table"
    show("\n".join(text for _, text in rows) if is_plan else render(names, rows, args.format))
    return 0


def verify(args: argparse.Namespace) -> int:
    """Print the reconciliation. Raises DataRefused when a record is lost or stored twice."""
    from pipelines.reconcile.verify import verify as reconcile

    require_writable_file("--report", args.report)
    report = reconcile(settings_of(args).settings, say)
    document = json.dumps(report.to_json(), indent=2)
    if args.report:
        _write(args.report, document)
    show(document if args.json else partition_table(report))
    if not report.ok:
        raise DataRefused(report.verdict)
    say(report.verdict)
    return 0


def partition_table(report: VerifyReport) -> str:
    """One line per partition, and what was rejected by reason."""
    names = [
        "partition",
        "from",
        "committed",
        "archived",
        "rejected",
        "lost",
        "duplicates",
        "unaccounted",
        "gaps",
        "lag",
    ]
    rows: list[list[Any]] = [
        [
            p.partition,
            p.start,
            p.committed_end,
            p.archived,
            p.rejected,
            p.lost,
            p.duplicates,
            p.unaccounted,
            p.gaps,
            p.lag,
        ]
        for p in report.partitions
    ]
    rows.append(
        [
            "all",
            None,
            None,
            report.archived,
            report.rejected,
            report.lost,
            report.duplicates,
            report.unaccounted,
            report.gaps,
            report.lag,
        ]
    )
    reasons = ", ".join(f"{name} {n}" for name, n in report.rejected_by_reason.items()) or "none"
    table = as_table(names, [["" if value is None else value for value in row] for row in rows])
    last = f"late: {report.late}, re-sent: {report.resent}"
    if report.gaps:
        last += f"\ngaps: {report.markers} markers of transactions, {report.aborted} aborted records"
    return f"{table}\nrejected: {reasons}\n{last}"


def _ask_duckdb(settings: Settings, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    from pipelines.lake_sql import ask_lake

    return ask_lake(settings, query)


def _script(settings: Settings, engine: str) -> str:
    if engine == "spark":
        from pipelines.lake_spark import view_script as script
    else:
        from pipelines.lake_sql import view_script as script
    return script(settings)


def _ask_spark(settings: Settings, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    from pipelines.lake_spark import ask_spark

    return ask_spark(settings, query, say)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise no_file("--report", path, error) from None
