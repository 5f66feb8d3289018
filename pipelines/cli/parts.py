"""Commands that make the parts by hand: topics, broker, objectstore."""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path
from shlex import quote
from typing import Any

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say, say_timed, show
from pipelines.settings_load import environment_name

_BROKER_DIR = Path("runs/broker")
_STORE_DIR = Path("runs/objectstore")


def register(commands: Commands) -> None:
    """Add the commands."""
    topics = _group(commands, "topics", "Create the topics.")
    add_command(
        topics,
        "create",
        "Create the topics that are missing; those that exist stay as they are.",
        create_topics,
    )
    broker = _group(commands, "broker", "A real Kafka broker on this machine, in the background.")
    _start_and_stop(broker, "Kafka broker", _BROKER_DIR, start_broker, stop_broker)
    store = _group(commands, "objectstore", "A real MinIO object store on this machine, in the background.")
    _start_and_stop(store, "MinIO object store", _STORE_DIR, start_objectstore, stop_objectstore)


def create_topics(args: argparse.Namespace) -> int:
    """Create the missing topics and say which."""
    from pipelines.topics import create_topics as create
    from pipelines.topics import wait_for_kafka

    settings = settings_of(args).settings
    wait_for_kafka(settings.kafka, say)
    made = create(settings)
    there = [name for name in settings.kafka.topics.model_dump().values() if name not in made]
    for verdict, names in (("created", made), ("already there", there)):
        if names:
            show(f"{verdict}: {', '.join(names)}")
    return 0


def start_broker(args: argparse.Namespace) -> int:
    """Start a broker that outlives this command."""
    from pipelines.local.broker import start_detached_broker

    broker = start_detached_broker(args.dir, port=args.port, say=say_timed)
    say(f"Kafka runs at {broker.bootstrap_servers}, data and log in {args.dir}; next:")
    show(f"export {environment_name('kafka.bootstrap_servers')}={broker.bootstrap_servers}")
    show("gridwatch topics create")
    return 0


def stop_broker(args: argparse.Namespace) -> int:
    """Stop it; that none runs is no error."""
    from pipelines.local.broker import stop_detached_broker

    say("Kafka stopped, its data stay" if stop_detached_broker(args.dir) else f"no Kafka broker of {args.dir} runs")
    return 0


def start_objectstore(args: argparse.Namespace) -> int:
    """Start a store that outlives this command, with the bucket of conf/local.toml in it."""
    from pipelines.conf_files import conf_text
    from pipelines.local.objectstore import credentials_file, start_detached_objectstore

    bucket = tomllib.loads(conf_text("local.toml"))["objectstore"]["bucket"]
    store = start_detached_objectstore(args.dir, port=args.port, say=say_timed)
    store.create_bucket(bucket)
    say(
        f"MinIO runs at {store.endpoint} with bucket {bucket}, data and log in {args.dir};"
        " its keys are in a file only you can read; next:"
    )
    show(f"set -a; . {quote(str(credentials_file(args.dir.resolve())))}; set +a")
    show(f"export {environment_name('lake.root')}=s3a://{bucket}/lake")
    return 0


def stop_objectstore(args: argparse.Namespace) -> int:
    """Stop it and forget its keys; that none runs is no error."""
    from pipelines.local.objectstore import stop_detached_objectstore

    stopped = stop_detached_objectstore(args.dir)
    say("MinIO stopped, its data stay" if stopped else f"no MinIO object store of {args.dir} runs")
    return 0


def _group(commands: Commands, name: str, text: str) -> Any:
    parser = commands.add_parser(name, help=text, description=text)
    return parser.add_subparsers(metavar="ACTION", required=True)


def _start_and_stop(group: Commands, what: str, folder: Path, start: Any, stop: Any) -> None:
    starter = add_command(group, "start", f"Start a {what} and print what to export.", start, with_settings=False)
    starter.add_argument("--port", type=_port, metavar="PORT", help="loopback port (default: a free one)")
    stopper = add_command(group, "stop", f"Stop the {what} of this folder.", stop, with_settings=False)
    for parser in (starter, stopper):
        parser.add_argument("--dir", type=Path, metavar="DIR", default=folder, help=f"run folder (default: {folder})")


def _port(text: str) -> int:
    if not text.isdecimal() or not 1024 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give 1024 to 65535")
    return int(text)
