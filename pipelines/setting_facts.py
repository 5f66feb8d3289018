"""What is to be known about a setting besides its value: what is legal and how it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import SecretStr

from pipelines.durations import Seconds, format_seconds

_PARSE_SECONDS = get_args(Seconds)[1]
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def is_duration(field: Any) -> bool:
    """Whether a number in the setting is a duration in seconds."""
    return _PARSE_SECONDS in _metadata(field)


def written(field: Any, value: Any) -> str:
    """A value as it would stand in the settings file; `-` when it is not set."""
    return format_seconds(value) if is_duration(field) and isinstance(value, (int, float)) and value else text_of(value)


def text_of(value: Any) -> str:
    """A plain value as text.

    >>> text_of(True), text_of((0.9, 0.8)), text_of(None), text_of(5.0)
    ('true', '[0.9, 0.8]', '-', '5')
    """
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(text_of, value))}]"
    return str(value)


def legal(field: Any) -> str:
    """Legal values in words: the choices, or the kind and its bounds."""
    return " or ".join(part for part in _kinds(field) if part)


def _kinds(field: Any) -> Iterator[str]:
    for kind in _alternatives(field.annotation):
        if get_origin(kind) is Literal:
            yield ", ".join(str(choice) for choice in get_args(kind))
        elif kind is not type(None):
            yield f"{_kind(field, kind)} {_bounds(field)}".strip()


def _kind(field: Any, kind: Any) -> str:
    if is_duration(field):
        return "duration"
    if get_origin(kind) is tuple:
        return "list of texts" if get_args(kind)[0] is str else f"{len(get_args(kind))} numbers"
    names = {bool: "true, false", int: "whole number", float: "number", str: "text", SecretStr: "secret"}
    return names[kind]


def _bounds(field: Any) -> str:
    found = []
    for part in field.metadata:
        for name, sign in _BOUNDS.items():
            if (bound := getattr(part, name, None)) is not None:
                found.append(f"{sign} {format_seconds(bound) if is_duration(field) and bound else text_of(bound)}")
        if pattern := getattr(part, "pattern", None):
            found.append(f"such as {' or '.join(field.examples)}" if field.examples else f"like {pattern}")
        if getattr(part, "min_length", None):
            found.append("not empty")
    return " and ".join(found)


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    plain = get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation
    if get_origin(plain) in (Literal, tuple) or isinstance(plain, type):
        return (plain,)
    return tuple(one for part in get_args(plain) for one in _alternatives(part))


def _metadata(field: Any) -> list[Any]:
    nested = (part for kind in get_args(field.annotation) for part in getattr(kind, "__metadata__", ()))
    return [*field.metadata, *nested]
