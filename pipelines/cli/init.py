"""Command init: a settings file with every line explained."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from pipelines.cli.arguments import Commands, add_command
from pipelines.cli.docs_settings import SECTIONS, section_of
from pipelines.cli.output import say, show
from pipelines.errors import SettingsError
from pipelines.setting_facts import is_duration, legal, written
from pipelines.settings_load import environment_name, is_secret, load_settings, setting_fields

_TEXT = """Write a settings file in which every setting stands with its meaning, its legal values and its default.
A line that begins with # is not in force: take the # away and change the value."""

_EPILOG = """example:
  gridwatch init my.toml --set kafka.bootstrap_servers=kafka-1:9092 --set lake.root=s3a://grid/lake
  gridwatch check --settings my.toml

Without FILE the text goes to standard output. An existing file is never overwritten."""

_FIRST = ("kafka.bootstrap_servers", "lake.root", "pipeline.checkpoint", "detection.cadence_s")
"""What hardly anybody leaves as it is: in force, so that it is seen."""
_EXAMPLES = {
    "kafka.sasl_username": "gridwatch",
    "kafka.ssl_cafile": "ca.pem",
    "store.endpoint": "https://s3.example.net",
    "store.ca_file": "ca.pem",
    "lake.fleet": "conf/fleet.csv",
    "lake.labels": "labels.csv",
    "lake.retention_days": 365,
    "metrics.consumer_group": "gridwatch",
    "notify.alertmanager": "http://127.0.0.1:9093",
}
"""For settings that have no default."""
_HEAD = """# Settings of gridwatch, written by `gridwatch init`.
# A line that begins with # is not in force and shows the default, or an example where there is none.
# An environment variable wins over this file (GRIDWATCH_LAKE__ROOT for lake.root), --set wins over both.
# Secrets come from the environment, or from files that it names."""
_WIDTH = 100
_LINK = re.compile(r"\s*\(\[[^]]*]\([^)]*\)\)")
"""A link of the page docs/configuration.md, in brackets."""


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(commands, "init", _TEXT, init, with_settings=False)
    parser.epilog = _EPILOG
    parser.add_argument("file", metavar="FILE", nargs="?", type=Path, help="the file to write, such as my.toml")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], dest="assignments",
        help="a setting that is to be in force, for example lake.root=s3a://grid/lake; may be given again",
    )  # fmt: skip


def init(args: argparse.Namespace) -> int:
    """Write the file. Raises SettingsError for a value that is refused and a file that exists."""
    text = settings_text(args.assignments)
    if args.file is None:
        show(text)
        return 0
    try:
        with args.file.open("x", encoding="utf-8") as file:
            file.write(text + "\n")
    except FileExistsError:
        raise SettingsError(f"{args.file} exists: name another file, or remove it") from None
    except OSError as error:
        raise SettingsError(f"{args.file}: {error.strerror}") from None
    say(f"wrote {args.file}; edit it, then:")
    show(f"gridwatch check --settings {args.file}\ngridwatch topics create --settings {args.file}")
    show(f"gridwatch run --settings {args.file}")
    return 0


def settings_text(assignments: list[str]) -> str:
    """The file. Raises SettingsError when an assignment is no setting or out of range."""
    loaded = load_settings(Path("/dev/null"), assignments, environment={})
    sections = groupby(sorted(setting_fields(), key=lambda pair: list(SECTIONS).index(section_of(pair[0]))),
                       key=lambda pair: section_of(pair[0]))  # fmt: skip
    parts = [_HEAD]
    for section, members in sections:
        lines = [f"[{section}]", *_comment(_LINK.sub("", SECTIONS[section]))]
        for name, field in members:
            lines += ["", *_setting(name, field, loaded.settings, is_set=name in loaded.sources)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _setting(name: str, field: Any, settings: Any, *, is_set: bool) -> Iterator[str]:
    short = name.rpartition(".")[2]
    if is_secret(field):
        yield from _comment(f"{short}: {field.description} Set {environment_name(name)}.")
        return
    value = settings
    for part in name.split("."):
        value = getattr(value, part)
    yield from _comment(f"{field.description} Legal: {legal(field)}.")
    if value is None:
        yield "# (not set; an example:)"
    shown = _EXAMPLES[name] if value is None else value
    in_force = is_set or name in _FIRST
    yield f"{'' if in_force else '#'}{short} = {_toml(field, shown)}"


def _toml(field: Any, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(_toml(None, one) for one in value)}]"
    if isinstance(value, (int, float)) and not (field is not None and is_duration(field) and value):
        return f"{value:.12g}"
    # A basic string of TOML has the escapes of JSON.
    return json.dumps(value if isinstance(value, str) else written(field, value), ensure_ascii=False)


def _comment(text: str) -> Iterator[str]:
    line = "#"
    for word in text.split():
        if len(line) + len(word) + 1 > _WIDTH:
            yield line
            line = "#"
        line += f" {word}"
    yield line
