"""The page docs/quality.md: every expectation of the data quality gate from its declaration."""

from __future__ import annotations

from collections.abc import Iterator

from pipelines.cli.markdown import code, table
from pipelines.quality.checks import Check
from pipelines.quality.suites import all_suites
from pipelines.settings import Settings

_INTRO = """# Data quality

`gridwatch quality --day 2026-03-01` judges one day of event time (UTC; yesterday without `--day`). It is meant for a
scheduler, an hour or so after midnight, when late readings have come:

```text
pip install -c conf/constraints.txt -e '.[quality]'     # Great Expectations, once
30 1 * * *  gridwatch quality --settings my.toml --report-dir /srv/reports || tell-somebody
```

| exit code | means |
|---|---|
| 0 | the day passes; warnings are printed and kept, and do not count |
| 2 | settings or usage, also when Great Expectations is not installed |
| 3 | an expectation of severity `fail` is broken, or the archive has no readings on that day |
| 4 | the object store does not answer |

## How it works

DuckDB reads the Delta tables of the day, without Spark and beside the running pipeline, and counts **every** row:
nothing is sampled. What it counts are frames of facts, as large as the fleet or the day's clock and not as large as the
day: one row a meter, an hour, a slide, a window end, a batch. Great Expectations judges these frames, so an expectation
such as `reading_stored_once` says *which* meter has how many readings too many. Readings are counted by slices of about
four million; what does not fit into memory is spilled to the temporary folder. Measured on a loaded 2-core machine:
16.7 million readings and 2.9 million windows of 2,000 meters in 50 s, 47 CPU seconds, 741 MB; the demo's 120,000
readings in about 7 s, most of it Great Expectations itself.

The part of the day that the archive covers is measured first: where the day before or after has readings, the day is
due whole on that side; else it begins and ends with the first and last slide that has a tenth of what is usual. The
first and last day of an archive are therefore judged by what they cover.

**Results** go to the table `quality_results`, one row an expectation and run, and to HTML data docs in
`DIR/DAY/index.html`: that page lists every outcome, without a network and without JavaScript. Its links lead to the
pages of Great Expectations, which load styles and scripts from public addresses and are plain without a network.

```text
gridwatch sql "SELECT day, suite, expectation, unexpected, examples FROM quality_results WHERE NOT success"
```

On an object store the command needs the right to read all tables and to write `quality_results`. Great Expectations
runs on pandas in memory, and its usage statistics are off.

## What it cannot see

- A day is judged by itself: what changes over weeks is the business of `gridwatch profiles` and the rules.
- `fleet_clock` takes a delay that is the same all day, give or take five minutes, for a wrong time zone. A delivery
  that is always half an hour late looks the same: raise `quality.max_clock_shift`.
- Rejected records have no event time. They are counted with the batch they came in.
- Batches of days at the edge of `lake.retention_days` held readings of days that are gone: `readings_as_audited` then
  says so. The same goes for windows older than `lake.windows_retention_days`.
- A fault that few meters have (`quality.odd_meters`) is for the rules, not for the gate.

Limits are settings: [configuration](configuration.md), section `quality`. Those that are not in it follow from the
contract, from `detection.*`, or stand in the tables below, which are made from the code."""


def quality_page() -> str:
    """The page as Markdown, with the default settings."""
    return "\n\n".join((_INTRO, "## Expectations", *_suites()))


def _suites() -> Iterator[str]:
    for suite in all_suites(Settings()):
        yield f"### {suite.name}\n\nOne row of facts: {suite.grain}."
        names = ["expectation", "severity", "on a good day", "judged by"]
        yield table(names, [_row(check) for check in suite.checks])


def _row(check: Check) -> list[str]:
    return [code(check.name), check.severity, check.meaning, f"{code(check.kind)} {_arguments(check)}".strip()]


def _arguments(check: Check) -> str:
    shown = [(n, v) for n, v in check.arguments.items() if v is not None and (n, v) != ("mostly", 1)]
    return ", ".join(f"{name} = {code(_value(value))}" for name, value in shown)


def _value(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
