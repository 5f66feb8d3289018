"""The page docs/configuration.md: every setting from its declaration."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from pipelines.cli.markdown import code, table
from pipelines.setting_facts import legal, written
from pipelines.settings_load import CLASSES, NOT_SETTINGS, class_fields, environment_name, is_secret, setting_fields

PUBLISHED_NAMES = {
    "ANOMALY_THRESHOLD": ("detection.sigma", "Standard deviations that make a voltage deviation."),
    "WINDOW_SIZE": ("detection.window", "Length of the sliding window; give a unit, such as `5 min`."),
}
"""Names of the published description, and the settings that do their work."""

SECTIONS = {
    "kafka": "Brokers and what topics are created with.",
    "kafka.topics": "Names of the topics.",
    "store": "The object store of an `s3a://` lake.",
    "lake": "Where the tables are, and what is loaded into them at start.",
    "input": "What is accepted as a reading.",
    "input.fields": "Names and units in your own JSON documents; the defaults are the wire contract's.",
    "detection": "What is abnormal. `*_pu` is in units of the nominal voltage Un, or of the rated current.",
    "incidents": "When an incident ends and is told again.",
    "pipeline": "How the job runs.",
    "alerts": "Who publishes anomalies of single readings.",
    "upkeep": "How the pipeline looks after its tables; `gridwatch maintain` does it by hand.",
    "metrics": "What Prometheus reads of the jobs.",
    "notify": "Where `gridwatch notify` sends incidents.",
    "console": "The operator's page.",
    "quality": "Limits of the data quality gate ([quality](quality.md)).",
}
"""Every section of the settings, in the order in which they are shown, with what it is about."""

_CLASSES = """## detection.classes

What a class of meters has of its own, in place of the value in `detection`; NAME is that of the class, as it stands
in the column `meter_class` of `lake.fleet`. A class without any setting is written as an empty table. The names are
yours, so there are no environment variables: set them in the file or by
`--set detection.classes.transformer.own_load_ohm=0.02` ([classes](detection.md#classes-of-meters))."""

_OTHER = {
    "GRIDWATCH_SETTINGS": "The settings file, when `--settings` is not given.",
    "GRIDWATCH_CACHE": "Folder of downloaded jars and built programs; default `.cache`.",
    "GRIDWATCH_CONF_DIR": "Folder that is used in place of `conf/`.",
    "GRIDWATCH_ALLOWED_SKIPS": "For the tests in CI: ids of tests that may be skipped.",
}

_INTRO = """# Configuration

Every setting has one name, such as `detection.sigma`, and three places it may come from; a later one wins:

1. **file**: `conf/gridwatch.toml`, or the file given with `--settings FILE` or in `GRIDWATCH_SETTINGS`;
2. **environment**: `GRIDWATCH_` + the name in capitals with `__` for the dot: `GRIDWATCH_DETECTION__SIGMA`;
3. **command line**: `--set detection.sigma=3`, as often as needed.

What is in none of them has the default below. An unknown name, a value out of its range and a contradiction
are refused at start in one line, with exit code 2. `gridwatch check` shows every value in force and where it
came from.

Durations are numbers with `ms`, `s`, `min`, `h` or `d` (`"5 min"`); a plain number is seconds. Lists are
written as `[0.90, 0.85, 0.70]` in all three places. **Secrets** are read from the environment, or
from the file that the variable with `_FILE` behind its name gives (`GRIDWATCH_KAFKA__SASL_PASSWORD_FILE`): in the
settings file or after `--set` they are refused, and they are never printed ([security](security.md))."""


def configuration_page() -> str:
    """The page as Markdown."""
    return "\n\n".join((_INTRO, *_published(), *_sections(), *_others()))


def _published() -> Iterator[str]:
    yield "## From the published names\n\nThe names of the published description, and ours:"
    rows = [
        [code(old), code(name), code(environment_name(name)), text] for old, (name, text) in PUBLISHED_NAMES.items()
    ]
    yield table(["published", "setting", "environment variable", "meaning"], rows)


def _sections() -> Iterator[str]:
    fields = sorted(setting_fields(), key=lambda pair: list(SECTIONS).index(section_of(pair[0])))
    for section, members in groupby(fields, key=lambda pair: section_of(pair[0])):
        yield f"## {section}\n\n{SECTIONS[section]}"
        names = ["setting", "environment variable", "default", "legal", "meaning"]
        yield table(names, [_row(name, field) for name, field in members])
        if CLASSES.startswith(f"{section}."):
            yield from _classes()


def _classes() -> Iterator[str]:
    yield _CLASSES
    rows = [[code(name), legal(field), field.description] for name, field in class_fields()]
    yield table(["setting", "legal", "meaning"], rows)


def _row(name: str, field: Any) -> list[str]:
    secret = "**Secret.** " if is_secret(field) else ""
    default = "not set" if field.default is None else code(written(field, field.default))
    return [code(name), code(environment_name(name)), default, legal(field), secret + field.description]


def _others() -> Iterator[str]:
    yield "## Environment variables that are no settings"
    yield table(["variable", "meaning"], [[code(name), _OTHER[name]] for name in sorted(NOT_SETTINGS)])


def section_of(name: str) -> str:
    """Section of a setting: what stands before the last dot."""
    return name.rpartition(".")[0]
