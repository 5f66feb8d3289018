"""Commands of an operator: doctor, checkpoint, skip-range, upgrade, maintain."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict

from pipelines.addresses import is_store
from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.checks import Check, look_at_broker_clock, look_at_store_clock, look_at_topics, reach_kafka, tried
from pipelines.cli.output import say, show
from pipelines.cli.render import as_table
from pipelines.errors import SettingsError
from pipelines.settings import Settings

_NEW_GENERATION = "Begin new checkpoints that go on from the tables, when the old ones are lost or do not fit them."
_UPGRADE = "Say what an older lake and checkpoint need to go on with this version, and do it with --yes."
_SKIP = "Record in the table audit that offsets are lost for good, and go on behind them."


def register(commands: Commands) -> None:
    """Add the commands."""
    doctor_parser = add_command(
        commands,
        "doctor",
        "Look at Java, memory, ports, broker, topics, store, clock, tables, checkpoint and whether they fit together.",
        doctor,
    )
    doctor_parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor_parser.epilog = "Nothing is changed. The exit code is that of the first thing that failed."
    checkpoint = commands.add_parser("checkpoint", help="Show the checkpoint's identity, or begin a new generation.")
    kinds = checkpoint.add_subparsers(metavar="ACTION", required=True)
    add_command(kinds, "show", "Print the record that lies beside the checkpoints.", show_checkpoint)
    new = add_command(kinds, "new-generation", _NEW_GENERATION, new_generation)
    new.add_argument(
        "--from-offsets",
        metavar="WHERE",
        default="tables",
        help="tables = where the tables end (default); or partition:offset,... at or behind that, for example"
        " 0:500,1:700: offsets that are jumped over are noted in audit",
    )
    new.add_argument(
        "--rebuild",
        action="store_true",
        help="also empty meter_windows and baselines and compute them again from readings, without what recompute had"
        " put in: its ranges are printed",
    )
    new.epilog = (
        "The pipeline must be stopped. Old checkpoints stay where they are. Nothing is stored twice: rows\n"
        "that no audit row counts are taken back and read again. Anomalies may go to Kafka again, with the\n"
        "same ids."
    )
    skip = add_command(commands, "skip-range", _SKIP, skip_range)
    skip.add_argument("ranges", metavar="PARTITION:FIRST-LAST", nargs="+", help="for example 0:100-199")
    skip.add_argument("--why", metavar="TEXT", default="gone from Kafka", help="the reason that audit will hold")
    skip.epilog = (
        "The pipeline must be stopped. Only offsets that Kafka no longer has can be skipped, from where the tables\n"
        "end. `gridwatch run` prints the command when it finds such a range."
    )
    upgrading = add_command(commands, "upgrade", _UPGRADE, upgrade)
    upgrading.add_argument("--yes", action="store_true", help="do what is due; without it nothing is changed")
    upgrading.epilog = (
        "With --yes the pipeline must be stopped. Each step is said before it is done, and can be repeated: after an\n"
        "interruption run the command again. No record of the archive is lost or stored twice."
    )
    upkeep = add_command(
        commands,
        "maintain",
        "OPTIMIZE, VACUUM and retention of all tables now; the running pipeline does it itself.",
        maintain,
    )
    upkeep.add_argument("--json", action="store_true", help="print the figures as JSON")
    upkeep.epilog = "The pipeline must be stopped: its lock keeps a second writer out."


def doctor(args: argparse.Namespace) -> int:
    """Exit code of the first check that failed, 0 when all is well."""
    settings = settings_of(args).settings
    checks = diagnose(settings)
    exit_code = next((check.exit_code for check in checks if check.exit_code), 0)
    if args.json:
        show(json.dumps({"ok": exit_code == 0, "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        show(as_table(["check", "result", "what"], [[c.name, c.result, c.detail] for c in checks]))
    return exit_code


def diagnose(settings: Settings) -> list[Check]:
    """Every check; those that need a part that failed are skipped. A folder, and Amazon S3, have no store port."""
    from pipelines import doctor as parts
    from pipelines.lake_probe import probe_lake

    done: dict[str, Check] = {}

    def look(name: str, attempt: Callable[[], str], *needs: str) -> None:
        failed = [need for need in needs if need in done and done[need].result in ("failed", "skipped")]
        done[name] = Check(name, "skipped", f"needs {failed[0]}") if failed else tried(name, attempt)

    look("java", parts.look_at_java)
    look("memory", lambda: parts.look_at_memory(settings))
    look("kafka port", lambda: parts.look_at_kafka_port(settings))
    look("broker", lambda: reach_kafka(settings), "kafka port")
    look("topics", lambda: look_at_topics(settings), "broker")
    if address := parts.store_address(settings):
        look("store port", lambda: parts.look_at_store_port(address))
    look("store", lambda: probe_lake(settings), "store port")
    look("broker clock", lambda: look_at_broker_clock(settings), "topics")
    if is_store(settings.lake.root):
        look("store clock", lambda: look_at_store_clock(settings), "store port")
    look("tables", lambda: parts.look_at_tables(settings), "store")
    look("alerts", lambda: parts.look_at_alerts(settings), "topics", "store")
    look("checkpoint", lambda: parts.look_at_checkpoint(settings))
    look("identity", lambda: parts.look_at_identity(settings), "topics", "store", "checkpoint")
    return list(done.values())


def show_checkpoint(args: argparse.Namespace) -> int:
    """Print the record."""
    from pipelines.identity.files import CheckpointFiles
    from pipelines.identity.record import read_record

    settings = settings_of(args).settings
    record = read_record(CheckpointFiles(settings))
    if record is None:
        raise SettingsError(
            f"pipeline.checkpoint = {settings.pipeline.checkpoint} holds no record: `gridwatch run` makes it"
        )
    show(record.to_json())
    return 0


def new_generation(args: argparse.Namespace) -> int:
    """Begin a generation; under the lock, with Kafka and the lake there."""
    from pipelines.client_errors import as_ours
    from pipelines.identity import generation
    from pipelines.identity.lock import CheckpointLock

    begin = generation.parse_offsets(args.from_offsets)
    settings = settings_of(args).settings
    with CheckpointLock(settings, "gridwatch checkpoint new-generation"), as_ours(settings):
        _wait_for_parts(settings)
        record = generation.new_generation(settings, begin, rebuild=args.rebuild, say=say)
    show(f"generation {record.number}: {record.generation}; start `gridwatch run`")
    return 0


def skip_range(args: argparse.Namespace) -> int:
    """Note ranges as lost and begin a generation behind them; under the lock."""
    from pipelines.client_errors import as_ours
    from pipelines.identity import generation
    from pipelines.identity.lock import CheckpointLock

    ranges = generation.parse_ranges(args.ranges)
    if not args.why.strip():
        raise SettingsError('--why "": give the reason that audit will hold, or leave --why out')
    settings = settings_of(args).settings
    with CheckpointLock(settings, "gridwatch skip-range"), as_ours(settings):
        _wait_for_parts(settings)
        generation.skip_ranges(settings, ranges, why=args.why, say=say)
    show(f"noted in audit: {' '.join(args.ranges)}; start `gridwatch run`")
    return 0


def upgrade(args: argparse.Namespace) -> int:
    """Show what is due; with --yes do it, under the lock."""
    from contextlib import nullcontext

    from pipelines.client_errors import as_ours
    from pipelines.identity.lock import CheckpointLock
    from pipelines.identity.upgrade import plan_upgrade

    settings = settings_of(args).settings
    with CheckpointLock(settings, "gridwatch upgrade") if args.yes else nullcontext(), as_ours(settings):
        _wait_for_parts(settings)
        due = plan_upgrade(settings, say)
        for number, step in enumerate(due.steps, 1):
            show(f"{number}. {step.what}")
            if args.yes:
                step.do()
    for note in due.notes:
        show(f"note: {note}")
    if not due.steps:
        show("nothing is due: lake and checkpoint are of this version")
    elif args.yes:
        show(f"{len(due.steps)} steps are done; start `gridwatch run`")
    else:
        show(f"{len(due.steps)} steps are due: stop the pipeline, make a backup, run `gridwatch upgrade --yes`")
    return 0


def maintain(args: argparse.Namespace) -> int:
    """Look after every table; under the lock."""
    from pipelines.client_errors import as_ours
    from pipelines.identity.check import require_own_tables
    from pipelines.identity.lock import CheckpointLock
    from pipelines.small_tables import table_is_there, wait_for_lake
    from pipelines.tables import TABLES
    from pipelines.upkeep import look_after

    settings = settings_of(args).settings
    done = []
    with CheckpointLock(settings, "gridwatch maintain"), as_ours(settings):
        wait_for_lake(settings, say)
        require_own_tables(settings)
        for table in TABLES.values():
            if table_is_there(settings, table):
                say(f"looking after {table.name}")
                done.append(asdict(look_after(settings, table, thorough=True)))
    if args.json:
        show(json.dumps(done, indent=2))
    else:
        names = ["table", "files", "bytes", "compacted_files", "expired_files", "vacuumed_files"]
        show(as_table(names, [[row[name] for name in names] for row in done]))
    return 0


def _wait_for_parts(settings: Settings) -> None:
    from pipelines.small_tables import wait_for_lake
    from pipelines.topics import wait_for_kafka

    wait_for_kafka(settings.kafka, say)
    wait_for_lake(settings, say)
