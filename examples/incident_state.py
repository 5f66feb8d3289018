"""Read the compacted topic `incidents` as a change feed: all of it from the start, then what changes.

Needs kafka-python and nothing of gridwatch.

    python examples/incident_state.py --bootstrap-servers 127.0.0.1:9092

prints the incidents there are, one JSON document a line, then every change until it is interrupted; an incident that
is no more (two became one, or a recompute took it back) is {"incidentId": ..., "removed": true}. No group and no
committed offset: the state is made from the topic at each start, which also finds the tombstones that a long pause
would miss.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

POLL_MS = 500


class IncidentState:
    """Incidents by id, as the records read so far leave them."""

    def __init__(self) -> None:
        self.incidents: dict[str, dict[str, Any]] = {}

    def apply(self, record: Any) -> dict[str, Any] | None:
        """One record; returns what changed, None when it says what is known already (Kafka may repeat records)."""
        incident_id = record.key.decode()
        before = self.incidents.get(incident_id)
        if record.value is None:
            self.incidents.pop(incident_id, None)
            return {"incidentId": incident_id, "removed": True} if before else None
        now: dict[str, Any] = json.loads(record.value)
        self.incidents[incident_id] = now
        return now if now != before else None


def records(consumer: Any, topic: str, *, follow: bool) -> Iterator[Any]:
    """Every record of every partition from the first on; None once, when the end of the moment is reached."""
    parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or {0})]
    consumer.assign(parts)
    consumer.seek_to_beginning(*parts)
    ends = consumer.end_offsets(parts)
    at_end = False
    while follow or not at_end:
        for batch in consumer.poll(timeout_ms=POLL_MS).values():
            yield from batch
        if not at_end and all(consumer.position(part) >= ends[part] for part in parts):
            at_end = True
            yield None


def main(argv: Sequence[str] | None = None) -> int:
    """Print the state, then the changes."""
    parser = argparse.ArgumentParser(description="Print the incidents of a topic, then every change.")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092", metavar="HOST:PORT")
    parser.add_argument("--topic", default="incidents")
    parser.add_argument("--once", action="store_true", help="end when the state is printed")
    args = parser.parse_args(argv)
    state, complete = IncidentState(), False
    try:
        opened = KafkaConsumer(bootstrap_servers=args.bootstrap_servers.split(","))
    except (KafkaError, ValueError, OSError) as error:
        print(f"no broker answers at {args.bootstrap_servers}: {type(error).__name__}", file=sys.stderr)
        return 4
    with closing(opened) as consumer:
        try:
            for record in records(consumer, args.topic, follow=not args.once):
                if record is None:
                    complete = True
                    _print(*state.incidents.values())
                elif (changed := state.apply(record)) and complete:
                    _print(changed)
        except KeyboardInterrupt:
            pass
    return 0


def _print(*documents: dict[str, Any]) -> None:
    for document in documents:
        print(json.dumps(document, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    sys.exit(main())
