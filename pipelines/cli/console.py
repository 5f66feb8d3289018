"""Command console: the operator's page."""

from __future__ import annotations

import argparse

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say_timed

_EPILOG = """One page on loopback: incidents as they live, the feeders, a meter's voltage with what was expected
of it, and how the pipeline does. It reads topics and tables, starts no Spark, and runs beside the jobs or alone.

It only shows. With GRIDWATCH_CONSOLE__TOKEN set (16 characters or more) whoever gives the page that token may
acknowledge and mute incidents and say what they turned out to be; the pipeline puts it into the table operator_actions.

example:
  export GRIDWATCH_CONSOLE__TOKEN=$(python -c 'import secrets; print(secrets.token_urlsafe(24))')
  gridwatch console --settings my.toml --port 8787"""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "console", "Serve the operator's page until it is interrupted.", console)
    parser.epilog = _EPILOG
    parser.add_argument("--port", type=int, metavar="PORT", help="instead of console.port; 0 takes a free one")


def console(args: argparse.Namespace) -> int:
    """Serve the page; SIGTERM and Ctrl-C end it in order."""
    from pipelines.console.serve import serve

    if args.port is not None:
        args.assignments = [*args.assignments, f"console.port={args.port}"]
    serve(settings_of(args).settings, say_timed)
    return 0
