"""Names of the members of the group. A member that starts again under its name takes its partitions over at once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def pipeline_member(lake: str) -> str:
    """Name of the member that a pipeline starts: one lake has one pipeline, on whatever host."""
    return f"pipeline-{lake}"


@contextmanager
def host_member(group: str, folder: Path | None = None) -> Iterator[str]:
    """`host-number`, with the first number that no running member of this host has, held for the block.

    The number is held by a lock that the kernel releases when the process dies, however it dies.
    """
    key = hashlib.sha256(group.encode()).hexdigest()[:16]
    place = folder or Path(tempfile.gettempdir())
    number = 0
    while True:
        path = place / f"gridwatch-{os.getuid()}-{key}-{number}.lock"
        with path.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                number += 1
                continue
            yield f"{socket.gethostname()}-{number}"
            return
