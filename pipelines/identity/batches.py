"""What Spark has noted in a query's checkpoint: its batches, their offsets, and whether a file is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.identity.files import CheckpointFiles


@dataclass(frozen=True)
class Batches:
    """The log of one query. `planned`: batches with offsets; `done`: those with a commit. Spark keeps the last 100."""

    files: CheckpointFiles
    folder: str
    planned: frozenset[int]
    done: frozenset[int]

    @classmethod
    def read(cls, files: CheckpointFiles, folder: str) -> Batches:
        """What is there now; nothing for a query that never ran."""
        planned, done = (frozenset(files.numbers(f"{folder}/{kind}")) for kind in ("offsets", "commits"))
        return cls(files, folder, planned, done)

    @property
    def is_new(self) -> bool:
        """Whether the query has never planned a batch here."""
        return not self.planned and not self.done

    def damage(self) -> Iterator[str]:
        """What is missing or cannot be read: Spark would repeat or skip batches without a word."""
        if self.is_new:
            return
        if self.files.text(f"{self.folder}/metadata") is None:
            yield f"{self.folder}/metadata is missing"
        last = max(self.planned, default=-1)
        if (newest := max(self.done, default=-1)) > last:
            yield f"{self.folder}/offsets/{newest} is missing, though that batch is done"
            return
        for number in range(min(self.planned), last):
            if number not in self.planned:
                yield f"{self.folder}/offsets/{number} is missing"
            elif number not in self.done and number >= min(self.done, default=0):
                yield f"{self.folder}/commits/{number} is missing"
        for number in {last, max(last - 1, min(self.planned))} & self.planned:
            if self._offsets(number) is None:
                yield f"{self.folder}/offsets/{number} is damaged"

    def end_of(self, number: int) -> dict[str, dict[int, int]]:
        """End offsets of a batch by topic and partition, for a query that reads Kafka."""
        return _by_topic(self._offsets(number) or {})

    def next_offsets(self) -> dict[str, dict[int, int]] | None:
        """Where the next batch to run begins, by topic; None when the query has not begun.

        The last planned batch runs again unless it is done.
        """
        if self.is_new:
            return None
        last = max(self.planned)
        if last in self.done:
            return self.end_of(last)
        return self.end_of(last - 1) if last - 1 in self.planned else self.first_offsets()

    def _offsets(self, number: int) -> dict[str, Any] | None:
        return _last_document(self.files.text(f"{self.folder}/offsets/{number}"))

    def first_offsets(self) -> dict[str, dict[int, int]]:
        """What the source noted at its very first start, by topic; empty when it has not."""
        return _by_topic(_last_document(self.files.text(f"{self.folder}/sources/0/0")) or {})


def _last_document(text: str | None) -> dict[str, Any] | None:
    """The JSON object in the last line of a log file; None when there is none.

    >>> _last_document('v1\\n{"a": 1}\\n{"t": {"0": 5}}'), _last_document("v1\\n{")
    ({'t': {'0': 5}}, None)
    """
    try:
        found = json.loads((text or "").strip().splitlines()[-1])
    except (ValueError, IndexError):
        return None
    return found if isinstance(found, dict) else None


def _by_topic(document: dict[str, Any]) -> dict[str, dict[int, int]]:
    return {
        topic: {int(partition): int(offset) for partition, offset in ends.items()}
        for topic, ends in document.items()
        if isinstance(ends, dict)
    }
