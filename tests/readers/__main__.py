"""`python -m tests.readers --lake DIR`: every table of a lake by every reader, with the rows each one finds."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib.metadata import version

from pipelines.cli.output import say
from pipelines.cli.render import as_table
from pipelines.errors import GridwatchError, SettingsError
from pipelines.lake_sql import no_tables
from pipelines.session import build_session
from pipelines.settings import Settings
from pipelines.settings_load import load_settings
from tests.readers.engines import NAMES, engines
from tests.readers.matrix import matrix

_PACKAGES = {"spark": "delta-spark", "duckdb": "duckdb", "deltalake": "deltalake", "polars": "polars"}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 when all readers agree on every table, 1 when not, else that of the error."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.readers",
        description=__doc__,
        epilog="Nothing is written. A table that is written while it is read is asked again. Store and keys of a lake"
        " on s3a:// come from the settings, as for gridwatch. Exit code 1 when two readers differ or one fails.",
    )
    parser.add_argument("--lake", metavar="DIR", help="root of the tables, a folder or s3a://bucket/prefix (lake.root)")
    parser.add_argument(
        "--readers", default=",".join(NAMES), metavar="NAMES", help="some of spark,duckdb,deltalake,polars (all)"
    )
    parser.add_argument("--json", action="store_true", help="print the matrix as JSON")
    args = parser.parse_args(argv)
    try:
        names = _chosen(args.readers)
        assignments = [f"lake.root={args.lake}"] if args.lake else []
        return _run(load_settings(assignments=assignments).settings, names, as_json=args.json)
    except GridwatchError as error:
        say(str(error))
        return error.exit_code


def _chosen(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if wrong := [name for name in names if name not in NAMES]:
        raise SettingsError(f"--readers {wrong[0]!r}: give some of {', '.join(NAMES)}, separated by commas")
    return names


def _run(settings: Settings, names: Sequence[str], *, as_json: bool) -> int:
    with ExitStack() as stack:
        spark = None
        if "spark" in names:
            say("starting Spark")
            spark = build_session(settings, app_name="gridwatch-readers")
            stack.callback(spark.stop)
        there = engines(settings, spark)
        lines = list(matrix(settings, {name: there[name] for name in names}))
    if not lines:
        raise no_tables(settings.lake.root)
    versions = {name: version(_PACKAGES[name]) for name in names}
    if as_json:
        print(json.dumps({"versions": versions, "tables": [asdict(line) for line in lines]}, indent=2))
    else:
        heads = ["table", "version", *(f"{name} {versions[name]}" for name in names), "verdict"]
        print(as_table(heads, [[line.table, line.version, *line.rows.values(), line.verdict] for line in lines]))
    return 0 if all(line.ok for line in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
