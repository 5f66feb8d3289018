"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import Any

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
