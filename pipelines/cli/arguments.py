"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipelines.csv_files import time_in
from pipelines.settings_load import Loaded, load_settings

if TYPE_CHECKING:
    from pipelines.offline.on_spark import Cluster
    from pipelines.settings import Settings

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


def add_engine(parser: Any) -> None:
    """--engine: where the work is done."""
    parser.add_argument(
        "--engine", choices=("local", "spark"), default="local",
        help="local (default): this process, no Java; spark: the cluster of pipeline.master, by groups of feeders, for"
        " what outgrows one process",
    )  # fmt: skip


@contextmanager
def engine_of(args: argparse.Namespace, settings: Settings, say: Callable[[str], None]) -> Iterator[Cluster | None]:
    """The cluster of `--engine spark`, for the block; None for this process."""
    if args.engine != "spark":
        yield None
        return
    from pipelines.offline.on_spark import cluster

    with cluster(settings, say) as found:
        yield found


def _moment(text: str) -> datetime:
    try:
        return time_in(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no ISO time such as 2026-03-01T12:00") from None
