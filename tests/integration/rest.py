"""When a pipeline has nothing left to do, told by its checkpoint: a slow machine only waits longer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pipelines.identity.batches import Batches as LoggedBatches
from pipelines.identity.files import CheckpointFiles
from pipelines.identity.record import read_record
from pipelines.incidents.positions import read_position
from pipelines.local.processes import Child
from pipelines.settings import Settings
from pipelines.topics import topic_offsets
from tests.integration.support import Place, wait_for

QUIET_S = 12.0
"""Longer than the triggers of a test's pipeline, its samples and their scrapes."""
Batches = dict[str, tuple[int, int]]


@dataclass
class Rest:
    """Asked again and again: whether no query is amid a batch, and none has begun another for a while."""

    place: Place
    quiet_s: float = QUIET_S
    _seen: Batches = field(default_factory=dict)
    _since: float = 0.0

    def __call__(self) -> bool:
        now = newest_batches(self.place)
        if now != self._seen:
            self._seen, self._since = now, time.monotonic()
        is_idle = all(begun == done for begun, done in now.values())
        return is_idle and time.monotonic() - self._since > self.quiet_s


def wait_for_rest(place: Place, pipeline: Child, timeout_s: float = 300) -> None:
    """Wait until the pipeline rests; fails with its last lines."""
    wait_for(pipeline, "a rest of all queries", Rest(place), timeout_s)


def newest_batches(place: Place) -> Batches:
    """Newest batch of each query that was begun, and that was done; -1 for none. Also of a checkpoint in the store."""
    files = CheckpointFiles(place.settings)
    record = read_record(files)
    found: Batches = {}
    for query in ("archive", "windows"):
        folder = record.folder(query) if record else query
        batches = LoggedBatches.read(files, folder)
        found[query] = max(batches.planned, default=-1), max(batches.done, default=-1)
    if record is not None:
        found["incidents"] = _read_anomalies(place.settings, record.generation)
    return found


def _read_anomalies(settings: Settings, generation: str) -> tuple[int, int]:
    """Anomalies that were sent, and those that the incidents have done, by the ends and positions of their topic."""
    topic = settings.kafka.topics.anomalies
    ends = {partition: end for partition, (_, end) in topic_offsets(settings.kafka, topic).items()}
    done = read_position(settings, generation, {topic: ends}).offsets.get(topic, {})
    return sum(ends.values()), sum(done.values())
