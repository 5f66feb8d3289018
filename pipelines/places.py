"""Places that a command is told to write to, tried before its work begins; nothing is left there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from pipelines.errors import SettingsError


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and its parents; those that were missing, the deepest first. Raises OSError."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove folders up to the first one that holds something."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def require_writable_file(option: str, file: Path | None) -> None:
    """Raise SettingsError when a file can be neither made nor written; one that is there is not changed."""
    if file is None:
        return
    try:
        is_new = not file.exists()
        file.open("ab").close()
        if is_new:
            file.unlink()
    except OSError as error:
        raise no_file(option, file, error) from None


def no_file(option: str, file: Path, error: OSError) -> SettingsError:
    """The error of a file that cannot be written."""
    return SettingsError(f"{option} {file}: {error.strerror}; name a file in a folder that exists")


def require_writable_folder(option: str, folder: Path) -> None:
    """Raise SettingsError when a folder can be neither made nor written to."""
    try:
        made = make_folder(folder)
        try:
            tempfile.TemporaryFile(dir=folder).close()
        finally:
            remove_empty(made)
    except OSError as error:
        raise no_folder(option, folder, error) from None


def no_folder(option: str, folder: Path, error: OSError) -> SettingsError:
    """The error of a folder that cannot be made or written to."""
    return SettingsError(f"{option} {folder}: {error.strerror}; name a folder that can be written")
