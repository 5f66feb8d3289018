"""What tables and checkpoints are made of, cheaply enough to be asked every few seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from pipelines.settings import Settings
from pipelines.small_tables import STORE_ERRORS, open_table
from pipelines.tables import Table

LOG = "_delta_log"
CHECKPOINT_KINDS = ("offsets", "commits", "state")
"""What Spark keeps of a query's batches; other files of a checkpoint do not grow with them."""


@dataclass(frozen=True)
class Objects:
    """Files in the folder of a table: of data, those that no version needs any more included, and of its log."""

    data: int
    log: int
    bytes: int


@dataclass(frozen=True)
class Content:
    """What the newest version of a table is made of, by its log."""

    files: int
    bytes: int
    rows: int
    version: int


def walk(folder: str) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder, hidden ones too; a folder that is not there has none."""
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path)
        else:
            yield entry


def objects(folder: Path) -> Objects:
    """Files of one table; one that vanishes meanwhile does not count.

    >>> objects(Path("/nowhere"))
    Objects(data=0, log=0, bytes=0)
    """
    data = log = taken = 0
    below = len(str(folder)) + 1
    for entry in walk(str(folder)):
        try:
            taken += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
        if entry.path.startswith(f"{LOG}{os.sep}", below):
            log += 1
        else:
            data += 1
    return Objects(data, log, taken)


def checkpoint_files(folder: Path) -> dict[str, int]:
    """Files below a checkpoint of all queries, by kind.

    >>> checkpoint_files(Path("/nowhere"))
    {'offsets': 0, 'commits': 0, 'state': 0, 'other': 0}
    """
    found = dict.fromkeys((*CHECKPOINT_KINDS, "other"), 0)
    below = len(str(folder)) + 1
    for entry in walk(str(folder)):
        folders = entry.path[below:].split(os.sep)[:-1]
        found[next((name for name in folders if name in CHECKPOINT_KINDS), "other")] += 1
    return found


@dataclass
class Contents:
    """The tables of a lake, kept open: each look reads only the commits since the last one."""

    settings: Settings
    _open: dict[str, DeltaTable] = field(default_factory=dict)
    _known: dict[str, Content] = field(default_factory=dict)

    def of(self, table: Table) -> Content | None:
        """The newest version of a table; None when it is not there or cannot be read now."""
        try:
            delta = self._newest(table)
            known = self._known.get(table.name)
            if known is None or known.version != delta.version():
                known = self._known[table.name] = _content(delta)
        except STORE_ERRORS:
            self._open.pop(table.name, None)  # the log may have been cut under it: opened anew, it begins elsewhere
            return None
        return known

    def _newest(self, table: Table) -> DeltaTable:
        delta = self._open.get(table.name)
        if delta is None:
            delta = self._open[table.name] = open_table(self.settings, table)
        else:
            delta.update_incremental()
        return delta


def _content(delta: DeltaTable) -> Content:
    files, version = pa.table(delta.get_add_actions()), int(delta.version())
    if not files.num_rows:
        return Content(0, 0, 0, version)
    size, rows = (int(pc.sum(files[name]).as_py() or 0) for name in ("size_bytes", "num_records"))
    return Content(files.num_rows, size, rows, version)
