"""Commands about the settings and the plan: check, describe."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import SecretStr

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.checks import run_checks
from pipelines.cli.output import painted, say, show
from pipelines.cli.render import as_table
from pipelines.durations import format_seconds
from pipelines.setting_facts import written
from pipelines.settings import AUTO, Settings
from pipelines.settings_load import CLASSES, Loaded, class_fields, known_environment_names, setting_fields

MASK = "********"
_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "skipped": "dim"}


@dataclass(frozen=True)
class Value:
    """One setting as it is in force, safe to print."""

    name: str
    value: Any
    text: str
    source: str


def register(commands: Commands) -> None:
    """Add the commands."""
    check_parser = add_command(
        commands,
        "check",
        "Show every setting with its source, then try Kafka, its topics, rights and clock, the store and the lake."
        " Nothing is changed.",
        check,
    )
    check_parser.add_argument(
        "--sample", type=_count, metavar="N", default=0, nargs="?", const=1000,
        help="also judge the latest N records (1000) by the pipeline's own decoder",
    )  # fmt: skip
    check_parser.add_argument("--names", action="store_true", help="only list the environment variables")
    check_parser.add_argument("--json", action="store_true", help="print settings and checks as JSON")
    describe_parser = add_command(
        commands, "describe", "Show messages, tables and the physical plans of archive and windows.", describe
    )
    describe_parser.add_argument("--jars", action="store_true", help="only list the jars Spark is started with")


def check(args: argparse.Namespace) -> int:
    """Exit code of the first check that failed, 0 when all is well."""
    if args.names:
        show("\n".join(sorted(known_environment_names())))
        return 0
    loaded = settings_of(args)
    values = values_of(loaded)
    if not args.json:
        show(as_table(["setting", "value", "source"], [[v.name, v.text, v.source] for v in values]))
    checks = list(run_checks(loaded.settings, sample=args.sample))
    exit_code = next((c.exit_code for c in checks if c.exit_code), 0)
    if args.json:
        settings = {v.name: {"value": v.value, "source": v.source} for v in values}
        document = {"settings": settings, "checks": [asdict(c) for c in checks], "ok": exit_code == 0}
        show(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        table = as_table(["check", "result", "what"], [[c.name, c.result, c.detail] for c in checks])
        show("\n" + painted(table, _COLOURS))
    return exit_code


def values_of(loaded: Loaded) -> list[Value]:
    """Every setting with its value and source; secrets masked, `auto` with what it comes to."""
    common = [_value(loaded, name, field) for name, field in setting_fields()]
    return [*common, *_values_of_classes(loaded)]


def _values_of_classes(loaded: Loaded) -> Iterator[Value]:
    """What each class has of its own; a class that has nothing is named all the same."""
    for name, own in loaded.settings.detection.classes.items():
        section = f"{CLASSES}.{name}"
        if not own.model_fields_set:
            yield Value(section, {}, "as detection", loaded.sources.get(section, "default"))
        for template, field in class_fields():
            dotted = template.replace("NAME", name)
            value = getattr(own, dotted.rpartition(".")[2])
            if value is not None:
                yield Value(dotted, value, written(field, value), loaded.sources.get(dotted, "default"))


def describe(args: argparse.Namespace) -> int:
    """Print what a job would do, without Kafka and without a lake."""
    from pipelines import describe as description

    settings = settings_of(args).settings
    if args.jars:
        show("\n".join(description.jars()))
        return 0
    for title, names, rows in description.schemas():
        show(f"{title}\n\n{as_table(names, rows)}\n")
    say("starting Spark to plan the queries")
    for query, plan in description.plans(settings):
        show(f"physical plan of query {query}\n\n{plan}")
    return 0


def _value(loaded: Loaded, dotted: str, field: Any) -> Value:
    value: Any = loaded.settings
    for name in dotted.split("."):
        value = getattr(value, name)
    source = loaded.sources.get(dotted, "default")
    if isinstance(value, SecretStr):
        return Value(dotted, MASK, MASK, source)
    text = f"auto = {_resolved(loaded.settings, dotted)}" if value == AUTO else written(field, value)
    return Value(dotted, value, text, source)


def _resolved(settings: Settings, dotted: str) -> str:
    if dotted == "alerts.group":
        return "gridwatch-alerts-<id of the lake>"
    detection = settings.detection
    seconds = {
        "detection.window": detection.window_s,
        "detection.slide": detection.slide_s,
        "detection.baseline_max_age": detection.baseline_max_age_s,
        "input.resent_horizon": settings.resent_horizon_s,
    }
    return format_seconds(seconds[dotted])


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 100_000:
        raise argparse.ArgumentTypeError(f"{text!r}: give 1 to 100000 records")
    return int(text)
