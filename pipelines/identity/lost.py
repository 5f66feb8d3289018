"""What Kafka no longer has and a query still needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipelines.identity.batches import Batches
from pipelines.identity.tables import audited_ends
from pipelines.settings import Settings

NEW_GENERATION = "`gridwatch checkpoint new-generation --from-offsets tables`"
REBUILD_COMMAND = "`gridwatch checkpoint new-generation --rebuild`"

Offsets = Mapping[int, tuple[int, int]]
"""First available and next offset of each partition of a topic."""


def lost_records(settings: Settings, topics: Mapping[str, Offsets], archive: Batches) -> Iterator[str]:
    topic = settings.kafka.topics.readings
    needed = (archive.next_offsets() or {}).get(topic, {})
    there = topics[topic]
    beyond = [p for p, offset in needed.items() if p not in there or offset > there[p][1]]
    if beyond:
        p = min(beyond)
        end = there[p][1] if p in there else "nothing"
        yield (
            f"partition {p} of topic {topic} ends at {end}, the checkpoint at {needed[p]}: records were deleted"
            " or this is"
            " another cluster; restore the topic, or begin with a lake.root and a pipeline.checkpoint of its own"
        )
        return
    if not [p for p, offset in needed.items() if offset < there[p][0]]:
        return
    stored = audited_ends(settings)
    gone = {p: (max(o, stored.get(p, o)), there[p][0] - 1) for p, o in needed.items() if o < there[p][0]}
    ranges = [f"{p}:{first}-{last}" for p, (first, last) in sorted(gone.items()) if first <= last]
    if not ranges:
        yield f"topic {topic} has lost records of a batch that is stored but not finished: go on with {NEW_GENERATION}"
        return
    listed = ", ".join(f"partition {p}: offsets {a} to {b}" for p, (a, b) in sorted(gone.items()) if a <= b)
    yield (
        f"topic {topic} has lost records before they were read (retention was shorter than the downtime):"
        f" {listed}; record"
        f" the loss and go on with `gridwatch skip-range {' '.join(ranges)}`"
    )


def lost_findings(topics: Mapping[str, Offsets], read: Mapping[str, Mapping[int, int]]) -> Iterator[str]:
    """What the incidents still need; `read`: next offset by topic and partition."""
    for topic, needed in read.items():
        for partition, offset in sorted(needed.items()):
            first, end = topics.get(topic, {}).get(partition, (0, offset))
            if offset > end:
                yield (
                    f"partition {partition} of topic {topic} ends at {end}, the incidents are at {offset}: records"
                    f" were deleted; go on with {NEW_GENERATION}"
                )
                return
            if offset < first:
                yield (
                    f"topic {topic} has lost anomalies before they were stored: partition {partition}: offsets"
                    f" {offset} to"
                    f" {first - 1}; go on with {NEW_GENERATION}, or compute them again with {REBUILD_COMMAND}"
                )
                return
