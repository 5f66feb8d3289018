"""The plan of an archive batch: what it was decided to be, one object beside the checkpoint, before its first commit.

A batch that has a plan is carried out from it, whatever came since: other settings, another code, more records in
Kafka. The newest plan stays until the next one is there, because it names the panes that are held back.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import AlreadyExistsError
from obstore.store import LocalStore

from pipelines.lake.parquet import DataFile
from pipelines.readings.alignment import Ranges
from pipelines.readings.held import HeldFile

FORMAT = 1


@dataclass(frozen=True)
class Plan:
    """A batch of the archive, decided. Times are epoch ms."""

    generation: str
    batch: int
    ranges: Ranges
    is_cut: bool
    aligned_ms: int | None
    """Aligned time after the batch."""
    decoder: str
    """Hash of what decided which bytes are which readings."""
    files: Mapping[str, Sequence[DataFile]]
    """Data files by table; those of `rejected` are also what the dead letters are made of."""
    audit: Sequence[Mapping[str, Any]]
    """Rows of `audit`, as `facts.as_audit` takes them."""
    held: Sequence[HeldFile] = field(default_factory=tuple)
    """Files of panes that are held back after the batch."""

    @property
    def records(self) -> int:
        """Records read."""
        return sum(row["records_in"] for row in self.audit)

    @property
    def rejected(self) -> int:
        """Rejected items."""
        return sum(row["rejected"] for row in self.audit)

    def to_json(self) -> str:
        """The text of the object."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Raises ValueError, KeyError or TypeError for a text that is not a plan of ours."""
        document = json.loads(text)
        if document.pop("format") != FORMAT:
            raise ValueError("the plan has a format that this version does not know")
        files = {table: [DataFile.of(file) for file in of_table] for table, of_table in document.pop("files").items()}
        ranges = {int(partition): (first, end) for partition, (first, end) in document.pop("ranges").items()}
        held = [HeldFile(**file) for file in document.pop("held")]
        return cls(**document, files=files, ranges=ranges, held=held)


@dataclass(frozen=True)
class Plans:
    """The plans of one generation: objects named by the batch, below a folder of the checkpoint.

    `store` begins at `pipeline.checkpoint`, as `object_store` gives it. Errors of the store pass through.
    """

    store: Any
    folder: str

    def read(self, batch: int) -> Plan | None:
        """The plan of a batch, or None. Raises ValueError, KeyError or TypeError for a damaged one."""
        try:
            return Plan.from_json(bytes(obstore.get(self.store, self._name(batch)).bytes()).decode())
        except FileNotFoundError:
            return None

    def newest(self) -> Plan | None:
        """The plan with the highest number, or None."""
        numbers = self._numbers()
        return self.read(max(numbers)) if numbers else None

    def create(self, plan: Plan) -> None:
        """Write a plan, whole or not at all. Raises FileExistsError when another one of this batch is there."""
        name, text = self._name(plan.batch), plan.to_json().encode()
        try:
            if isinstance(self.store, LocalStore):
                _link_new(Path(str(self.store.prefix)) / name, text)
            else:
                obstore.put(self.store, name, text, mode="create")
        except (AlreadyExistsError, FileExistsError):
            # A request whose reply was lost is sent again, and meets what it has written.
            if self.read(plan.batch) != plan:
                raise FileExistsError(name) from None

    def remove(self, batch: int) -> None:
        """Remove the plan of a batch, if it is there."""
        obstore.delete(self.store, self._name(batch))

    def keep_newest(self) -> None:
        """Remove all plans but the newest."""
        for batch in sorted(self._numbers())[:-1]:
            self.remove(batch)

    def _numbers(self) -> set[int]:
        names = (Path(found["path"]).stem for page in obstore.list(self.store, self.folder) for found in page)
        return {int(name) for name in names if name.isdecimal()}

    def _name(self, batch: int) -> str:
        return f"{self.folder}/{batch}.json"


def _link_new(path: Path, content: bytes) -> None:
    """A file that survives a power cut, and is there with all its content or not at all.

    Raises FileExistsError when there is one of that name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}.draft")
    try:
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
