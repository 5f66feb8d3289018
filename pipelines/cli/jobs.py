"""Commands that run jobs in the foreground: run, alerts, notify, generate."""

from __future__ import annotations

import argparse
import signal
from types import FrameType

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say_timed

_ALERTS = "Run the real-time alerts job in the foreground until it is interrupted; needs alerts.mode = realtime."
_NOTIFY = "Tell webhooks and an Alertmanager of incidents, in the foreground, until it is interrupted."


def register(commands: Commands) -> None:
    """Add the commands."""
    add_command(commands, "run", "Run the pipeline job in the foreground until it is interrupted.", run)
    add_command(commands, "alerts", _ALERTS, alerts).epilog = (
        "exit codes: 2 settings, wrong mode or too few task slots, 3 records it needs are gone, 4 Kafka, store or"
        " pipeline\nnot reachable, or stuck (start it again), 130 interrupted."
    )
    add_command(commands, "notify", _NOTIFY, notify).epilog = (
        "exit codes: 2 settings or nobody to notify, 4 Kafka not reachable, 130 interrupted. A dead receiver"
        "\nends nothing: it is tried again until it takes what waits for it."
    )
    # No character begins an option here: argparse would otherwise refuse the generator's own ones.
    generate_parser = commands.add_parser(
        "generate",
        help="Send simulated meter readings with labelled faults.",
        add_help=False,
        prefix_chars="\0",
    )
    generate_parser.add_argument("rest", nargs=argparse.REMAINDER)
    generate_parser.set_defaults(command=generate)


def run(args: argparse.Namespace) -> int:
    """The pipeline job; SIGTERM ends it like Ctrl-C."""
    from pipelines.jobs.pipeline import run_pipeline

    loaded = settings_of(args)
    signal.signal(signal.SIGTERM, _interrupt)
    run_pipeline(loaded.settings, say_timed)
    return 0


def alerts(args: argparse.Namespace) -> int:
    """The real-time job; SIGTERM ends it like Ctrl-C."""
    from pipelines.jobs.alerts import run_alerts

    loaded = settings_of(args)
    signal.signal(signal.SIGTERM, _interrupt)
    run_alerts(loaded.settings, say_timed)
    return 0


def notify(args: argparse.Namespace) -> int:
    """The notifier; SIGTERM ends it like Ctrl-C."""
    from pipelines.notify.run import run_notifier

    loaded = settings_of(args)
    signal.signal(signal.SIGTERM, _interrupt)
    run_notifier(loaded.settings, say_timed)
    return 0


def generate(args: argparse.Namespace) -> int:
    """The generator, a program of its own."""
    from generator.__main__ import main

    return main(args.rest)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
