"""`python -m tests.faults`: runs rows of the fault matrix and writes what held."""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import command
from tests.faults.all_rows import load
from tests.faults.bench import Bench
from tests.faults.matrix import ROWS, in_order, try_row

_PARTS = ("pyspark", "delta-spark", "deltalake", "kafka-python", "duckdb")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 when every row that was run held, else 1."""
    args = _parser().parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    rows = in_order(_numbers(args))
    _say(f"seed {seed}, rows {', '.join(str(one.number) for one in rows)}")
    began, results = time.monotonic(), []
    folder = Path(tempfile.mkdtemp(prefix="gridwatch-faults-", dir=args.dir))
    try:
        with Bench(folder, seed, _say, kills=args.kills, short=args.short) as bench:
            for number, one in enumerate(rows, 1):
                _say(f"[{number}/{len(rows)}] row {one.number}: {one.fault}")
                results.append(try_row(one, bench))
                _tell(results[-1])
                report = {"seed": seed, **_circumstances(args, began), "rows": results}
                if args.report:
                    # Whose disk it was says nothing: what the jobs printed names files of the run's folder.
                    text = json.dumps(report, indent=1, default=str).replace(f"{folder}/", "")
                    Path(args.report).write_text(text + "\n", encoding="utf-8")
    finally:
        if args.keep:
            _say(f"logs, tables and checkpoints are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    failed = [result["row"] for result in results if not result["held"]]
    _say(f"{len(results) - len(failed)} of {len(results)} rows held; not held: {failed or 'none'}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every row")
    which.add_argument("--rows", help="numbers, such as 1-3,7,12")
    which.add_argument("--ci", action="store_true", help="the rows of CI")
    parser.add_argument("--seed", type=int, help="dice of kills and traffic; drawn and printed when not given")
    parser.add_argument("--kills", type=int, default=100, help="kills of row 1 (100)")
    parser.add_argument("--short", action="store_true", help="shorter outages and fewer repetitions, as in CI")
    parser.add_argument("--report", help="JSON file for the result, written anew after each row")
    parser.add_argument("--dir", help="where the run's folder is made")
    parser.add_argument("--keep", action="store_true", help="keep logs, tables and checkpoints")
    return parser


def _numbers(args: argparse.Namespace) -> list[int]:
    if args.all:
        return sorted(ROWS)
    if args.ci:
        return sorted(number for number, one in ROWS.items() if one.in_short)
    found: set[int] = set()
    for part in args.rows.split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    unknown = sorted(found - set(ROWS))
    if unknown:
        raise SystemExit(f"no row {unknown[0]}; there are {', '.join(map(str, sorted(ROWS)))}")
    return sorted(found)


def _tell(result: dict[str, Any]) -> None:
    figures = ", ".join(f"{name} {value}" for name, value in result["figures"].items())
    verdict = "held" if result["held"] else f"NOT HELD: {result['reason']}"
    _say(f"row {result['row']}: {verdict} ({result['seconds']} s) {figures}")


def _circumstances(args: argparse.Namespace, began: float) -> dict[str, Any]:
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "command": command("tests.faults", sys.argv[1:]),
        "commit": commit,
        "seconds": round(time.monotonic() - began, 1),
        "machine": {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()},
        "versions": {name: version(name) for name in _PARTS},
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


load()

if __name__ == "__main__":
    sys.exit(main())
