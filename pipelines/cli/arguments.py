"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from pipelines.csv_files import time_in
from pipelines.settings_load import Loaded, load_settings

Commands = Any
"""argparse's own type of a group of subcommands is private."""


def add_command(commands: Commands, name: str, text: str, run: Any, *, with_settings: bool = True) -> Any:
    """A subcommand that calls `run(args)`, with --settings and --set unless told otherwise."""
    parser = commands.add_parser(
        name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.set_defaults(command=run)
    if with_settings:
        parser.add_argument("--settings", metavar="FILE", help="settings file (default: conf/gridwatch.toml)")
        parser.add_argument(
            "--set", metavar="NAME=VALUE", action="append", default=[], dest="assignments",
            help="one setting, for example detection.sigma=3; may be given again",
        )  # fmt: skip
    return parser


def settings_of(args: argparse.Namespace) -> Loaded:
    """The settings a command was given. Raises SettingsError, one line."""
    return load_settings(args.settings, args.assignments)


def add_time_range(parser: Any) -> None:
    """--from and --to, as times `from_ts` and `to_ts` in UTC: partitions are days of UTC."""
    for name, text in (("--from", "first event time, ISO, UTC"), ("--to", "end of the event times")):
        parser.add_argument(name, metavar="TIME", type=_moment, required=True, dest=name.strip("-") + "_ts", help=text)


def _moment(text: str) -> datetime:
    try:
        return time_in(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO time such as 2026-03-01T12:00") from None
