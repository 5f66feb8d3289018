"""The command `gridwatch`: arguments in, exit code out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pipelines.cli import (
    console,
    dead_letters,
    demo,
    detection,
    init,
    jobs,
    lake,
    operations,
    parts,
    quality,
    recompute,
    settings,
)
from pipelines.cli.manual import add_manual
from pipelines.cli.output import has_colours, say
from pipelines.errors import GridwatchError

_EPILOG = """begin with: gridwatch demo; then gridwatch init my.toml, gridwatch check, gridwatch run, gridwatch console.
Results go to standard output, progress and errors to standard error; --json where a script may want it.
Colours on a terminal only, never with NO_COLOR. Every command has --help with examples.

exit codes: 0 done, 1 failed for another reason, 2 settings or usage,
3 data refused (mismatch, loss), 4 infrastructure not reachable, 130 interrupted.

Settings come from conf/gridwatch.toml (or --settings FILE), then GRIDWATCH_* variables, then --set."""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; docs and tests read it too."""
    parser = argparse.ArgumentParser(
        prog="gridwatch",
        description="Smart-grid anomaly pipeline: Kafka, Spark and Delta, every reading accounted for.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in (
        demo, init, jobs, parts, settings, lake, quality, console, operations, dead_letters, recompute, detection,
    ):  # fmt: skip
        group.register(commands)
    add_manual(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = build_parser().parse_args(arguments)
    try:
        return int(args.command(args) or 0)
    except GridwatchError as error:
        name = "\x1b[31mgridwatch:\x1b[0m" if has_colours(sys.stderr) else "gridwatch:"
        say(f"{name} {error}")
        return error.exit_code
    except KeyboardInterrupt:
        say("gridwatch: interrupted")
        return 130
    except BrokenPipeError:
        return 0
