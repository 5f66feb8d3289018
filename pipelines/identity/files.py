"""The files of a checkpoint, read and written without Spark: a folder, or a prefix of the object store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pyarrow import fs

from pipelines.addresses import is_store
from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.lake_probe import store_filesystem
from pipelines.settings import Settings


@dataclass(frozen=True)
class CheckpointFiles:
    """What lies below `pipeline.checkpoint`; names are relative to it and separated by slashes.

    Raises SettingsError for another kind of place, InfrastructureUnavailable when it does not answer.
    """

    settings: Settings

    @property
    def root(self) -> str:
        """`pipeline.checkpoint` as the user wrote it."""
        return self.settings.pipeline.checkpoint.rstrip("/")

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder of this machine."""
        return "://" not in self.root and not self.root.startswith("file:")

    @property
    def folder(self) -> Path:
        """The folder, when it is one."""
        return Path(self.root)

    def text(self, name: str) -> str | None:
        """Text of a file; None when there is no such file."""
        try:
            with self._files.open_input_stream(self._path(name)) as stream:
                return str(stream.read().decode("utf-8", errors="replace"))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unreachable(error) from None

    def names(self, folder: str) -> set[str]:
        """Names of the files and folders in a folder; empty when there is no such folder."""
        try:
            found = self._files.get_file_info(fs.FileSelector(self._path(folder), allow_not_found=True))
        except OSError as error:
            raise self._unreachable(error) from None
        return {info.base_name for info in found}

    def numbers(self, folder: str) -> set[int]:
        """The files of a folder that are named by a number, as Spark names its batches."""
        return {int(name) for name in self.names(folder) if name.isdecimal()}

    def write(self, name: str, text: str) -> None:
        """Write a file, or replace it: a crash leaves the old one or the new one, whole."""
        path = self._path(name)
        try:
            if not self.is_folder:
                self._put(path, text)
                return
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._put(f"{path}.draft", text)
            Path(f"{path}.draft").replace(path)
            Path(path).with_name(f".{Path(path).name}.crc").unlink(missing_ok=True)
        except OSError as error:
            raise self._unreachable(error) from None

    def _put(self, path: str, text: str) -> None:
        with self._files.open_output_stream(path) as stream:
            stream.write(text.encode())

    def _path(self, name: str) -> str:
        base = self.root if self.is_folder else self.root.partition("://")[2]
        return f"{base}/{name}".rstrip("/")

    @cached_property
    def _files(self) -> Any:
        if self.is_folder:
            return fs.LocalFileSystem()
        if is_store(self.root):
            return store_filesystem(self.settings.store)
        raise SettingsError(f"pipeline.checkpoint = {self.root}: give a folder, or s3a://bucket/prefix")

    def _unreachable(self, error: OSError) -> InfrastructureUnavailable:
        reason = str(error.strerror or error).strip().split("\n")[0]
        return InfrastructureUnavailable(
            f"pipeline.checkpoint = {self.root}: {reason}; `gridwatch doctor` looks at folder and store"
        )
