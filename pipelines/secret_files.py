"""Secrets that a file holds: `NAME_FILE` in the environment names it, as container platforms mount them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pipelines.errors import SettingsError

SUFFIX = "_FILE"


def with_secret_files(environment: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The environment with every `NAME_FILE` replaced by NAME, the text of that file without its last line break.

    Raises SettingsError when the file cannot be read or is empty, or when NAME is set too.

    >>> with_secret_files({"KEY": "x"}, ["KEY"])
    {'KEY': 'x'}
    """
    found = dict(environment)
    for name in names:
        path = found.pop(name + SUFFIX, None)
        if path is None:
            continue
        if name in found:
            raise SettingsError(f"both {name} and {name + SUFFIX} are set: keep one")
        found[name] = _text(name + SUFFIX, path)
    return found


def _text(variable: str, path: str) -> str:
    try:
        secret = Path(path).read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise SettingsError(f"{variable} = {path}: {reason}; it must name a file with nothing but the secret") from None
    if not secret:
        raise SettingsError(f"{variable} = {path} is empty; it must name a file with nothing but the secret")
    return secret
