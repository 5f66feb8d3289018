"""`python -m tests.fuzz`: a million inputs through the decoder, each judged by a validator of its own."""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipelines.readings.decode import Decoder
from pipelines.settings import Settings
from tests.fuzz.judge import ACCEPTED, Verdict, judge
from tests.fuzz.mutate import Fuzzer

BATCH = 25_000
_SHOWN = 20


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code: 0 when decoder and validator agree on every input."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs (1,000,000)")
    parser.add_argument("--seed", type=int, help="drawn and printed when not given")
    parser.add_argument("--report", help="JSON file for the result")
    args = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    report = fuzz(seed, args.count)
    if args.report:
        Path(args.report).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _say(f"{report['inputs']} inputs, {report['accepted']} accepted, {report['crashes']} crashes,"
         f" {report['disagreements']} disagreements, {report['seconds']} s, seed {seed}")  # fmt: skip
    return 1 if report["crashes"] or report["disagreements"] else 0


def fuzz(seed: int, count: int) -> dict[str, Any]:
    """Run so many inputs; the report names the first that are wrong."""
    fuzzer, seen, decoder = Fuzzer(seed), set[object](), Decoder(Settings().input)
    total, done, began = Verdict(), 0, time.monotonic()
    while done < count:
        values = fuzzer.batch(min(BATCH, count - done))
        verdict = judge(values, seen, decoder)
        for value in verdict.novel:
            fuzzer.keep(value)
        done += len(values)
        total.outcomes += verdict.outcomes
        total.crashes += verdict.crashes
        total.disagreements += verdict.disagreements
        for value, got, wanted in verdict.disagreements[:3]:
            _say(f"disagreement: {value!r}: decoder {got}, validator {wanted}")
        for value, error in verdict.crashes[:3]:
            _say(f"crash: {value!r}: {error}")
        rate = done / (time.monotonic() - began)
        _say(f"{done} of {count} inputs, {rate:.0f}/s, {len(seen)} kinds of outcome, corpus {len(fuzzer.corpus)}")
    return {
        "seed": seed,
        "command": f"python -m tests.fuzz --count {count} --seed {seed}",
        "inputs": done,
        "outcomes": sum(total.outcomes.values()),
        "accepted": total.outcomes[ACCEPTED],
        "rejected": dict(Counter({name: n for name, n in total.outcomes.items() if name != ACCEPTED}).most_common()),
        "kinds_of_outcome": len(seen),
        "crashes": len(total.crashes),
        "disagreements": len(total.disagreements),
        "first_wrong": [[repr(value), *rest] for value, *rest in [*total.crashes, *total.disagreements][:_SHOWN]],
        "seconds": round(time.monotonic() - began, 1),
    }


def _say(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
