"""The command recompute."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

from pipelines.cli.arguments import Commands, add_command, add_engine, add_time_range, engine_of, settings_of
from pipelines.cli.output import say, say_timed, show
from pipelines.cli.render import as_table
from pipelines.errors import SettingsError

if TYPE_CHECKING:
    from pipelines.offline.recompute.run import Outcome

_TEXT = "Compute windows, anomalies and incidents again with the late and corrected readings of a time range."


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "recompute", _TEXT, recompute)
    add_time_range(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would change; the pipeline may run")
    parser.add_argument(
        "--notify", action="store_true",
        help="also send to Kafka what this and earlier runs of the range have changed; else nothing is sent",
    )  # fmt: skip
    add_engine(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.epilog = (
        "The pipeline must be stopped: its lock keeps a second writer out. Of several readings of one meter and time\n"
        "the one that came last counts. Every row that changes stands in the table recomputations, before and after.\n"
        "A run that died is simply run again.\n\n"
        "exit codes: 0 done, also when nothing changes, 2 settings or usage, 3 another process holds the checkpoint,\n"
        "checkpoint, tables and settings do not belong together, or retention has removed what is needed, 4 Kafka,\n"
        "Kafka or the store does not answer, 130 interrupted"
    )


def recompute(args: argparse.Namespace) -> int:
    """Print what changed by table and anomaly type."""
    from pipelines.offline.recompute.run import run_recompute

    if args.from_ts >= args.to_ts:
        raise SettingsError(f"--from {args.from_ts} must lie before --to {args.to_ts}")
    if args.dry_run and args.notify:
        raise SettingsError("--notify: nothing is sent in a --dry-run; leave one of them out")
    settings = settings_of(args).settings
    how = {"dry_run": args.dry_run, "notify": args.notify, "say": say_timed}
    with engine_of(args, settings, say_timed) as cluster:
        outcome = run_recompute(settings, args.from_ts, args.to_ts, **how, cluster=cluster)
    show(json.dumps(outcome.to_json(), indent=2) if args.json else change_table(outcome))
    for line in _remarks(outcome):
        say(line)
    return 0


def change_table(outcome: Outcome) -> str:
    """One line a table and anomaly type."""
    figures = outcome.to_json()
    counted = {name: figures[name] for name in ("meter_windows", "incidents", "anomalies")}
    counted |= {f"  {name}": found for name, found in figures["anomalies_by_type"].items()}
    return as_table(["changes", "new", "changed", "gone"], [[name, *found.values()] for name, found in counted.items()])


def _remarks(outcome: Outcome) -> list[str]:
    plan, remarks = outcome.plan, []
    if plan.left_out:
        remarks.append(f"{plan.left_out:,} readings lie before what meter_windows can judge and are left out")
    if plan.not_closed:
        remarks.append(
            f"{plan.not_closed:,} readings lie in windows of which the last is still open: what has closed counts them,"
            " run it again later for the rest"
        )
    if plan.left_alone:
        remarks.append(
            f"{plan.left_alone:,} windows of meters without such a reading, on other feeders, differ too (the fleet is"
            " another today) and are left as they are"
        )
    if plan.is_empty:
        remarks.append("all is as a batch over the archive has it: nothing was written")
    elif outcome.run_id is None:
        remarks.append("nothing was written: run it without --dry-run to do so")
    else:
        remarks.append(
            f"written as run {outcome.run_id} of the table recomputations; profiles of past days stay as they are:"
            " `gridwatch profiles --day` makes them anew"
        )
    if outcome.sent is not None:
        remarks.append("sent: " + ", ".join(f"{number:,} to {topic}" for topic, number in outcome.sent.items()))
    return remarks
