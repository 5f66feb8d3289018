"""`python -m generator`: plan a run, then send it to Kafka or write it to files."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from generator.errors import GeneratorError, InfrastructureError
from generator.fleet import write_fleet
from generator.labels import write_labels
from generator.options import parse, plan_from, run_folder
from generator.plan import check_clock, plan_to_json
from generator.progress import Progress
from generator.scenario import Scenario, build_scenario
from generator.tally import Tally, write_summary

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the generator with these arguments (default: the process's) and return the exit code.

    0 done, 2 usage, 4 broker, topic or folder not reachable, 130 interrupted (SIGINT or SIGTERM, after
    flushing and writing the summary). Everything it says goes to stderr.
    """
    try:
        args = parse(argv, os.environ)
        return _run(args)
    except GeneratorError as error:
        print(f"generator: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        action = "allowed: a writable folder; choose another --out or --run-dir"
        print(f"generator: {error.filename}: got {error.strerror}; {action}", file=sys.stderr)
        return InfrastructureError.exit_code


def _run(args: argparse.Namespace) -> int:
    plan = plan_from(args)
    scenario = build_scenario(plan)
    progress = Progress(scenario, quiet=args.quiet)
    folder = _write_known(scenario, run_folder(args))
    for sentence in scenario.dropped:
        progress.say(sentence)
    if args.plan_only:
        (folder / "plan.json").write_text(plan_to_json(plan), encoding="utf-8")
        progress.say(f"planned {len(scenario.faults)} faults in {folder}")
        return 0
    with _stop_on_signal() as stop:
        return _send(args, scenario, folder, progress, stop)


def _send(args: argparse.Namespace, scenario: Scenario, folder: Path, progress: Progress, stop: threading.Event) -> int:
    begun, complete, failure = time.monotonic(), False, {}
    with Tally(scenario.network, folder) as tally:
        try:
            deliver = _to_files if args.out else _to_kafka
            complete = deliver(args, scenario, tally, progress, stop)
        except GeneratorError as error:
            failure = {"failed": str(error)}
            raise
        finally:
            seconds = time.monotonic() - begun
            state = {} if complete else {"interrupted": True, **failure}
            write_summary(tally.summary(scenario.plan, seconds, **state), folder)
    verb = "sent" if complete else "interrupted after"
    progress.say(f"{verb} {tally.produced} records in {seconds:.1f} s: {folder}")
    return 0 if complete else INTERRUPTED


def _to_files(
    args: argparse.Namespace, scenario: Scenario, tally: Tally, progress: Progress, stop: threading.Event
) -> bool:
    from generator.files import write_files

    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    odd = not args.no_transport_faults
    return write_files(scenario, folder, tally, progress, stop, raw=args.raw, odd=odd)


def _to_kafka(
    args: argparse.Namespace, scenario: Scenario, tally: Tally, progress: Progress, stop: threading.Event
) -> bool:
    from generator.outlet import connect
    from generator.publish import publish

    check_clock(scenario.plan, int(time.time() * 1000))
    outlet = connect(args.bootstrap_servers, args.topic, scenario.network, say=progress.say, stop=stop)
    try:
        return publish(scenario, outlet, tally, progress, stop, odd=not args.no_transport_faults)
    finally:
        outlet.close()


def _write_known(scenario: Scenario, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_fleet(scenario.fleet, folder / "fleet.csv")
    write_labels(scenario.labels(), folder / "labels.csv")
    return folder


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set; the handlers before it come back at the end."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
