"""Commands about the settings and the plan: check, describe."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import SecretStr

from pipelines.cli.arguments import Commands, add_command, settings_of
from pipelines.cli.output import say, show
from pipelines.cli.render import as_table
from pipelines.durations import format_seconds
from pipelines.errors import GridwatchError
from pipelines.setting_facts import written
from pipelines.settings import AUTO, Settings
from pipelines.settings_load import Loaded, known_environment_names, setting_fields

MASK = "********"
_PATIENCE_S = 5.0
"""`check` answers soon: it waits this long for Kafka, and not `kafka.connect_timeout`."""


@dataclass(frozen=True)
class Value:
    """One setting as it is in force, safe to print."""

    name: str
    value: Any
    text: str
    source: str


@dataclass(frozen=True)
class Check:
    """One thing that was tried: `ok`, `failed` or, when what it needs has failed, `skipped`."""

    name: str
    result: str
    detail: str
    exit_code: int = 0


def register(commands: Commands) -> None:
    """Add the commands."""
    check_parser = add_command(
        commands,
        "check",
        "Show every setting with its source, then try Kafka, the topics and the lake. Nothing is changed.",
        check,
    )
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
    checks = run_checks(loaded.settings)
    exit_code = next((c.exit_code for c in checks if c.exit_code), 0)
    if args.json:
        settings = {v.name: {"value": v.value, "source": v.source} for v in values}
        document = {"settings": settings, "checks": [asdict(c) for c in checks], "ok": exit_code == 0}
        show(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        show("\n" + as_table(["check", "result", "what"], [[c.name, c.result, c.detail] for c in checks]))
    return exit_code


def values_of(loaded: Loaded) -> list[Value]:
    """Every setting with its value and source; secrets masked, `auto` with what it comes to."""
    return [_value(loaded, name, field) for name, field in setting_fields()]


def run_checks(settings: Settings) -> list[Check]:
    """Try Kafka, the topics and the lake; a failure carries the next command."""
    from pipelines.lake_probe import probe_lake

    kafka = tried("kafka", lambda: reach_kafka(settings))
    topics = Check("topics", "skipped", "Kafka does not answer") if kafka.exit_code else None
    return [
        kafka,
        topics or tried("topics", lambda: look_at_topics(settings)),
        tried("lake", lambda: probe_lake(settings)),
    ]


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
    if dotted == "alerts.master":
        return "local[partitions + 2]"
    detection = settings.detection
    seconds = {
        "detection.window": detection.window_s,
        "detection.slide": detection.slide_s,
        "detection.baseline_max_age": detection.baseline_max_age_s,
        "input.resent_horizon": settings.resent_horizon_s,
    }
    return format_seconds(seconds[dotted])


def tried(name: str, attempt: Callable[[], str]) -> Check:
    """What an attempt says, or the error it raises."""
    try:
        return Check(name, "ok", attempt())
    except GridwatchError as error:
        return Check(name, "failed", str(error), error.exit_code)


def reach_kafka(settings: Settings) -> str:
    """Whether a broker answers soon."""
    from pipelines.topics import wait_for_kafka

    patience = min(_PATIENCE_S, settings.kafka.connect_timeout)
    wait_for_kafka(settings.kafka.model_copy(update={"connect_timeout": patience}), say)
    return f"{settings.kafka.bootstrap_servers} answers"


def look_at_topics(settings: Settings) -> str:
    """Whether the topics are there, and the readings' clock is the broker's."""
    from pipelines.topics import check_topics

    check_topics(settings)
    return f"all {len(settings.kafka.topics.model_dump())} are there, and the broker's clock stamps the readings"
