"""Commands over rejected records: dlq list, show, replay."""

from __future__ import annotations

import argparse
import base64
import heapq
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say, show
from pipelines.cli.render import FORMATS, render
from pipelines.errors import SettingsError
from pipelines.places import no_file

if TYPE_CHECKING:
    from pipelines.reconcile.rejected import Rejected, Selection

_STATES = ("fresh", "replayed", "unsure", "parked")
_SHOWN_BYTES = 120
_REPLAY = "Send rejected records to the readings topic again, with all their bytes, each at most once."


def register(commands: Commands) -> None:
    """Add the commands."""
    dlq = commands.add_parser("dlq", help="List, show and replay rejected records.")
    kinds = dlq.add_subparsers(metavar="ACTION", required=True)
    listing = add_command(kinds, "list", "Count rejected records by reason and state.", list_reasons)
    showing = add_command(
        kinds, "show", "Show rejected records, newest last; control characters are escaped.", show_records
    )
    replaying = add_command(kinds, "replay", _REPLAY, replay_records)
    for parser in (listing, showing, replaying):
        _add_selection(parser)
    for parser in (listing, showing):
        parser.add_argument("--format", choices=FORMATS, default="table", help="default: table")
    showing.add_argument("--state", choices=_STATES, help="only records in this state")
    showing.add_argument("--limit", metavar="N", type=int, default=20, help="maximum number of records (default: 20)")
    showing.add_argument(
        "--out", metavar="FILE", type=Path, help="write the whole value of the record of --partition and --offset there"
    )
    replaying.add_argument(
        "--limit", metavar="N", type=int, default=10_000, help="maximum number of records (default: 10000)"
    )
    replaying.add_argument("--dry-run", action="store_true", help="only say what would be sent")
    replaying.epilog = (
        "A record is sent at most once: it is claimed in the table replays before it is sent. One whose bytes were\n"
        "replayed before, because it was rejected again, is parked and stays so. Remove the cause first: a"
        " setting, or\n"
        "a version with other rules."
    )


def list_reasons(args: argparse.Namespace) -> int:
    """Print counts."""
    from pipelines.reconcile.rejected import count_by_reason

    counts = count_by_reason(settings_of(args).settings, _selection(args))
    names = ["reason", *_STATES, "bytes"]
    show(render(names, [[reason, *(row[name] for name in names[1:])] for reason, row in counts.items()], args.format))
    return 0


def show_records(args: argparse.Namespace) -> int:
    """Print records, or write the value of one."""
    from pipelines.reconcile.rejected import rejected_records

    _require_limit(args.limit)
    found = rejected_records(settings_of(args).settings, _selection(args))
    wanted = (r for r in found if args.state in (None, r.state))
    chosen = heapq.nlargest(args.limit, wanted, key=lambda r: (r.kafka_ts, r.kafka_partition, r.kafka_offset))[::-1]
    if args.out:
        _write_value(args, chosen)
        return 0
    names = ["partition", "offset", "items", "appended", "reason", "state", "length", "key", "value"]
    is_json = args.format == "json"
    show(render(names, [_row(record, whole=is_json) for record in chosen], args.format))
    return 0


def replay_records(args: argparse.Namespace) -> int:
    """Send records again."""
    from pipelines.client_errors import as_ours
    from pipelines.identity.lock import CheckpointLock
    from pipelines.reconcile.replay import replay, to_replay
    from pipelines.table_features import require_known_features
    from pipelines.tables import REPLAYS
    from pipelines.topics import wait_for_kafka

    _require_limit(args.limit)
    settings = settings_of(args).settings
    if not args.reason and args.offset is None:
        raise SettingsError("dlq replay: say which, with --reason NAME (`gridwatch dlq list` shows them) or --offset")
    with CheckpointLock(settings, "gridwatch dlq replay", name="dlq.lock"), as_ours(settings):
        require_known_features(settings, [REPLAYS])
        chosen = to_replay(settings, _selection(args), limit=args.limit, say=say)
        if args.dry_run or not chosen:
            show(f"{len(chosen)} records would be sent to {settings.kafka.topics.readings}")
            return 0
        wait_for_kafka(settings.kafka, say)
        sent = replay(settings, chosen)
    show(f"{sent} records sent to {settings.kafka.topics.readings}")
    return 0


def _require_limit(limit: int) -> None:
    if limit < 1:
        raise SettingsError(f"--limit {limit}: must be 1 or more")


def _add_selection(parser: Any) -> None:
    parser.add_argument(
        "--reason", action="append", default=[], metavar="NAME", help="only this reason; may be given again"
    )
    parser.add_argument("--since", metavar="TIME", help="only records appended at or after this ISO time (UTC)")
    parser.add_argument("--until", metavar="TIME", help="only records appended before this ISO time (UTC)")
    parser.add_argument("--partition", metavar="P", type=int, help="only this partition")
    parser.add_argument("--offset", metavar="N", type=int, help="only this offset")


def _selection(args: argparse.Namespace) -> Selection:
    from pipelines.contract import rejection_reasons
    from pipelines.reconcile.rejected import Selection

    if unknown := sorted(set(args.reason) - set(rejection_reasons())):
        raise SettingsError(f"--reason {unknown[0]} is not a reason; the reasons are {', '.join(rejection_reasons())}")
    since, until = _moment("--since", args.since), _moment("--until", args.until)
    return Selection(args.reason, since, until, args.partition, args.offset)


def _moment(option: str, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{option} {text}: give an ISO time such as 2026-03-01T12:00:00") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at


def _row(record: Rejected, *, whole: bool) -> list[Any]:
    shown = [_as_base64(part) if whole else escaped(part) for part in (record.key, record.value)]
    length = None if record.value is None else len(record.value)
    at = record.kafka_ts.isoformat(timespec="milliseconds")
    items, reason = ",".join(map(str, record.items)), ", ".join(record.reasons)
    return [record.kafka_partition, record.kafka_offset, items, at, reason, record.state, length, *shown]


def escaped(part: bytes | None) -> str:
    """The beginning of untrusted bytes, safe for a terminal.

    >>> escaped(b'{"a":\\x1b[2J'), escaped(None)
    ('{"a":\\\\x1b[2J', 'null')
    """
    if part is None:
        return "null"
    return repr(part[:_SHOWN_BYTES])[2:-1] + ("..." if len(part) > _SHOWN_BYTES else "")


def _as_base64(part: bytes | None) -> str | None:
    return None if part is None else base64.b64encode(part).decode()


def _write_value(args: argparse.Namespace, chosen: list[Rejected]) -> None:
    if len(chosen) != 1:
        raise SettingsError(f"--out: {len(chosen)} records are selected; name one with --partition and --offset")
    try:
        args.out.write_bytes(chosen[0].value or b"")
    except OSError as error:
        raise no_file("--out", args.out, error) from None
