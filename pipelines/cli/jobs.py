"""Commands that run jobs in the foreground: run, alerts, notify, generate."""

from __future__ import annotations

import argparse
import os
import signal
import threading
from types import FrameType

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say_timed

_RUN = "Run the pipeline and one member of the alerts in the foreground until interrupted; what fails is started again."
_ALERTS = "Judge readings within milliseconds, as one more member of the alerts, in the foreground until interrupted."
_NOTIFY = "Tell webhooks and an Alertmanager of incidents, in the foreground, until it is interrupted."


def register(commands: Commands) -> None:
    """Add the commands."""
    add_command(commands, "run", _RUN, run).epilog = (
        "exit codes: 2 settings, 3 checkpoint, tables, topics or settings do not belong together, another process holds"
        "\nthe checkpoint, or records are gone (a restart does not help: the line says what does), 4 Kafka or the store"
        "\nnot reachable, or stuck (start it again), 130 ended by a signal, 1 failed for another reason."
    )
    add_command(commands, "alerts", _ALERTS, alerts).epilog = (
        "Start it as often as you like, on any host: partitions are shared among all members, also that of the\n"
        "pipeline. exit codes: 2 settings, 3 the topic does not fit what was judged, 4 Kafka or store not reachable"
        "\n(start it again), 5 another member has taken over under the same name (do not), 130 interrupted."
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
    """One member of the alerts; SIGTERM and Ctrl-C end it when all it has sent is committed."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # before Polars is imported
    from pipelines.alerts.run import run_alerts

    loaded, ending = settings_of(args), threading.Event()
    signal.signal(signal.SIGTERM, _interrupt)
    run_alerts(loaded.settings, say_timed, ending)
    raise KeyboardInterrupt


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
