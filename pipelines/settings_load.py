"""Settings from file, environment and command line, each value with the source it came from."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from pipelines.conf_files import conf_path
from pipelines.errors import SettingsError
from pipelines.former_settings import FORMER
from pipelines.secret_files import SUFFIX, with_secret_files
from pipelines.setting_facts import is_duration, legal
from pipelines.settings import MeterClass, Section, Settings

PREFIX = "GRIDWATCH_"
CLASSES = "detection.classes"
"""The section whose members the user names; only a file and --set can."""
_NEAR = 0.75
"""So alike, from 0 to 1, must a misspelt name and the one that is proposed be."""
NOT_SETTINGS = frozenset({"GRIDWATCH_CACHE", "GRIDWATCH_CONF_DIR", "GRIDWATCH_SETTINGS", "GRIDWATCH_ALLOWED_SKIPS"})
"""Environment variables of ours that are no settings: folders, the settings file, the tests' allow-list."""


class _Environment(BaseSettings, Settings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_nested_delimiter="__", extra="forbid", frozen=True)


@dataclass(frozen=True)
class Loaded:
    """Validated settings and, for every dotted name that is not a default, where its value came from."""

    settings: Settings
    sources: Mapping[str, str]


def setting_fields(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and pydantic field of every single setting but those of the classes (`class_fields`)."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from setting_fields(field.annotation, f"{prefix}{name}.")
        elif prefix + name != CLASSES:
            yield prefix + name, field


def class_fields() -> Iterator[tuple[str, Any]]:
    """Dotted name, with NAME for that of the class, and pydantic field of every setting of a class of meters."""
    for name, field in MeterClass.model_fields.items():
        yield f"{CLASSES}.NAME.{name}", field


def is_secret(field: Any) -> bool:
    """Whether the setting is typed as a secret."""
    return SecretStr in (field.annotation, *get_args(field.annotation))


def environment_name(dotted: str) -> str:
    """Environment variable of a setting.

    >>> environment_name("lake.root")
    'GRIDWATCH_LAKE__ROOT'
    """
    return PREFIX + dotted.upper().replace(".", "__")


def known_environment_names() -> set[str]:
    """Every environment variable that gridwatch reads."""
    files = {name + SUFFIX for name in secret_names()}
    return {environment_name(name) for name, _ in setting_fields()} | files | set(NOT_SETTINGS)


def secret_names() -> list[str]:
    """Environment variables that hold a secret; with `_FILE` behind its name each may name a file instead."""
    return [environment_name(name) for name, field in setting_fields() if is_secret(field)]


def load_settings(
    file: str | Path | None = None,
    assignments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Settings of file, then environment, then `key=value` assignments; later ones win.

    Without `file` the variable GRIDWATCH_SETTINGS names it, else `conf/gridwatch.toml` is read.
    Raises SettingsError, one line, for an unknown key, a value out of range or a contradiction.
    """
    env = dict(os.environ if environment is None else environment)
    layers = [
        _from_file(file or env.get("GRIDWATCH_SETTINGS")),
        ("environment", _from_environment(env)),
        ("--set", _from_assignments(assignments)),
    ]
    merged: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, values in layers:
        for dotted, value in values.items():
            _place(merged, dotted, value)
            sources[dotted] = source
    try:
        return Loaded(Settings.model_validate(merged), sources)
    except ValidationError as error:
        raise SettingsError(_first_problem(error, sources)) from None


def _from_file(file: str | Path | None) -> tuple[str, dict[str, Any]]:
    path = Path(file) if file else conf_path("gridwatch.toml")
    try:
        values = dict(_flatten(tomllib.loads(path.read_text(encoding="utf-8"))))
    except OSError as error:
        raise SettingsError(f"settings file {path}: {error.strerror}; name another one with --settings") from None
    except UnicodeDecodeError:
        raise SettingsError(f"settings file {path} is not UTF-8: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    _refuse_secrets(values, f"settings file {path}")
    return str(path), values


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    ours = {name: value for name, value in env.items() if name.startswith(PREFIX)}
    unknown = sorted(set(ours) - known_environment_names())
    if unknown:
        for name, advice in FORMER.items():
            if unknown[0] == environment_name(name):
                raise SettingsError(f"environment variable {unknown[0]} is no setting any more: {advice}")
        meant = _meant(unknown[0], known_environment_names())
        raise SettingsError(
            f"environment variable {unknown[0]} is no setting; {meant}`gridwatch check --names` lists them all"
        )
    ours = with_secret_files(ours, secret_names())
    source = EnvSettingsSource(_Environment)
    source.env_vars = {name.lower(): value for name, value in ours.items() if name not in NOT_SETTINGS}
    return dict(_flatten(source()))


def _from_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, separator, text = assignment.partition("=")
        if not (separator and name.strip()):
            raise SettingsError(f"--set {assignment}: give it as section.name=value, for example detection.sigma=3")
        values[name.strip()] = _toml_value(text.strip())
    _refuse_secrets(values, "--set")
    return values


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _refuse_secrets(values: Mapping[str, Any], where: str) -> None:
    for name, field in setting_fields():
        if name in values and is_secret(field):
            raise SettingsError(f"{name} is a secret: take it out of {where} and set {environment_name(name)}")


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        # An empty class says that there is such a class.
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def _place(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *path, last = dotted.split(".")
    for name in path:
        tree = tree.setdefault(name, {})
        if not isinstance(tree, dict):
            raise _no_setting(dotted)
    if not (value == {} and isinstance(tree.get(last), dict)):
        tree[last] = value


def _first_problem(error: ValidationError, sources: Mapping[str, str]) -> str:
    problem = error.errors()[0]
    names = [part for part in problem["loc"] if isinstance(part, str)]
    known = [".".join(names[:depth]) for depth in range(len(names), 0, -1)]
    dotted = next((name for name in known if name in sources), ".".join(names))
    if problem["type"] == "extra_forbidden":
        return str(_no_setting(dotted))
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and dotted not in sources:
        return message
    fields = dict(setting_fields()) | _of_class(dotted)
    if problem["type"] != "value_error":
        message = _legal(dotted, fields)
    value = "" if dotted in fields and is_secret(fields[dotted]) else f" = {problem['input']!r}"
    return f"{dotted}{value} (from {sources.get(dotted, 'the defaults')}): {message}"


def _legal(dotted: str, fields: Mapping[str, Any]) -> str:
    """What may stand there, in the words of `gridwatch init`, and not in those of the library that refused it."""
    if dotted in fields:
        unit = "; a plain number is seconds" if is_duration(fields[dotted]) else ""
        return f"legal: {legal(fields[dotted])}{unit}"
    inside = [name for name in fields if name.startswith(f"{dotted}.")]
    return f"{dotted} is a section; its settings are {', '.join(inside[:3])}{' ...' if inside[3:] else ''}"


def _of_class(dotted: str) -> dict[str, Any]:
    """The settings of the class that a dotted name is about; none for another name."""
    name = dotted.removeprefix(f"{CLASSES}.").partition(".")[0]
    if name == dotted or not dotted.startswith(f"{CLASSES}."):
        return {}
    return {template.replace("NAME", name): field for template, field in class_fields()}


def _no_setting(dotted: str) -> SettingsError:
    if dotted in FORMER:
        return SettingsError(f"{dotted} is no setting any more: {FORMER[dotted]}")
    if _of_class(dotted):
        allowed = ", ".join(name.rpartition(".")[2] for name, _ in class_fields())
        return SettingsError(f"{dotted} is no setting of a class of meters; these are {allowed}")
    meant = _meant(dotted, {name for name, _ in setting_fields()})
    return SettingsError(f"{dotted} is no setting; {meant}docs/configuration.md lists them all")


def _meant(name: str, known: Collection[str]) -> str:
    """The known name that a wrong one is nearest to, as a question; empty when none is near."""
    if name.endswith("."):
        return ""
    last = sorted(one for one in known if one.endswith(f".{name.rpartition('.')[2]}"))
    near = get_close_matches(name, known, n=1, cutoff=_NEAR) or (last if len(last) == 1 else [])
    return f"did you mean {near[0]}? " if near else ""
