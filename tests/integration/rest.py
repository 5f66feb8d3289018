"""When a pipeline has nothing left to do, told by its checkpoint: a slow machine only waits longer."""

from __future__ import annotations

import time
from pathlib import Path

from pipelines.local.processes import Child
from tests.faults.expect import newest
from tests.integration.support import Place, wait_for

QUIET_S = 12.0
"""Longer than the triggers of a test's pipeline, its samples and their scrapes."""
Batches = dict[str, tuple[int, int]]


def wait_for_rest(place: Place, pipeline: Child, timeout_s: float = 300) -> None:
    """Wait until no query is amid a batch and none has begun another for a while; fails with the last lines."""
    seen: tuple[Batches, float] = {}, 0.0

    def rests() -> bool:
        nonlocal seen
        now = newest_batches(place)
        if now != seen[0]:
            seen = now, time.monotonic()
        return all(begun == done for begun, done in now.values()) and time.monotonic() - seen[1] > QUIET_S

    wait_for(pipeline, "a rest of all queries", rests, timeout_s)


def newest_batches(place: Place) -> Batches:
    """Newest batch of each query that was begun, and that was done."""
    root = Path(place.settings.pipeline.checkpoint)
    found: Batches = {}
    for query in ("archive", "windows", "incidents"):
        folder = max(root.glob(f"**/{query}"), key=lambda path: path.stat().st_ctime)
        found[query] = newest(folder / "offsets"), newest(folder / "commits")
    return found
