"""Commands that run jobs in the foreground: run, alerts, notify, generate."""

from __future__ import annotations

import argparse
import signal
from types import FrameType

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say_timed

_RUN = "Run the pipeline job in the foreground until it is interrupted; failed queries are started again."
_ALERTS = "Run the real-time alerts job in the foreground until it is interrupted; needs alerts.mode = realtime."
_NOTIFY = "Tell webhooks and an Alertmanager of incidents, in the foreground, until it is interrupted."


def register(commands: Commands) -> None:
    """Add the commands."""
    add_command(commands, "run", _RUN, run).epilog = (
        "exit codes: 2 settings, 3 checkpoint, tables, topics or settings do not belong together, another process holds"
        "\nthe checkpoint, or records are gone (a restart does not help: the line says what does), 4 Kafka or the store"
        "\nnot reachable, or stuck (start it again), 130 ended by a signal, 1 failed for another reason."
    )
    add_command(commands, "alerts", _ALERTS, alerts).epilog = (
        "exit codes: 2 settings, wrong mode or too few task slots, 3 records it needs are gone or it runs already, 4\n"
        "Kafka, store or pipeline not reachable, or stuck (start it again), 130 interrupted."
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
    """The pipeline job; SIGTERM and Ctrl-C end it between two batches."""
    from pipelines.jobs.ending import Ending
    from pipelines.jobs.pipeline import run_pipeline

    loaded = settings_of(args)
    ending = Ending()
    ending.listen()
    run_pipeline(loaded.settings, say_timed, ending)
    return 0


def alerts(args: argparse.Namespace) -> int:
    """The real-time job; SIGTERM ends it like Ctrl-C."""
    from pipelines.identity.lock import CheckpointLock
    from pipelines.jobs.alerts import run_alerts

    loaded = settings_of(args)
    signal.signal(signal.SIGTERM, _interrupt)
    with CheckpointLock(loaded.settings, "gridwatch alerts", name="alerts.lock"):
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
