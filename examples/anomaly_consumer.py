"""Take each anomaly of the topic `anomalies` once, although Kafka may hold it more than once.

Needs kafka-python and nothing of gridwatch: copy it and put your own `handle` in.

    python examples/anomaly_consumer.py --bootstrap-servers 127.0.0.1:9092 --group my-consumer

prints one JSON document a line. What it relies on (docs/downstream.md): the same anomaly always has the same
`anomalyId` and key, so that its repeats are in one partition; a repeat comes soon after the first, not weeks later. Two
commands of an operator send old ones again: `gridwatch recompute --notify` with other values, marked by a header, which
`handle` is given; `gridwatch checkpoint new-generation --rebuild` unmarked, and what is forgotten is taken for new.

- Memory is bounded: the ids of the last `--remember` records of each partition.
- Offsets are committed after `handle` has returned, so nothing is lost. After a crash what was handled since the last
  commit comes again: let `handle` write under the key `anomalyId`, and a second time changes nothing.
- After a restart, or when a partition comes from another member of the group, the ids of the records before the
  committed offset are read again, so that repeats across a restart are found too.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError
from kafka.structs import OffsetAndMetadata

Handle = Callable[[dict[str, Any]], None]
Report = Callable[[str], None]

POLL_MS = 500


def is_recomputed(record: Any) -> bool:
    """Whether a record of a known id may have other values than the one before."""
    return any(name == "recomputed" for name, _ in record.headers)


class RecentIds:
    """The last `size` different ids; an older one is forgotten."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._ids: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, anomaly_id: str) -> bool:
        return anomaly_id in self._ids

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, anomaly_id: str) -> None:
        """Remember an id as the newest one."""
        self._ids[anomaly_id] = None
        self._ids.move_to_end(anomaly_id)
        if len(self._ids) > self._size:
            self._ids.popitem(last=False)


class Assigned(ConsumerRebalanceListener):
    """Notes which partitions came; asking the broker is left to the loop, as a listener must not block."""

    def __init__(self) -> None:
        self.fresh: set[TopicPartition] = set()

    def on_partitions_revoked(self, revoked: Sequence[TopicPartition]) -> None:
        self.fresh -= set(revoked)

    def on_partitions_assigned(self, assigned: Sequence[TopicPartition]) -> None:
        self.fresh |= set(assigned)


class AnomalyConsumer:
    """One member of a consumer group. `handle` gets each anomaly, in the order of its partition."""

    def __init__(
        self, topic: str, group: str, handle: Handle, *, remember: int = 100_000, report: Report = print, **client: Any
    ) -> None:
        self.memory: dict[TopicPartition, RecentIds] = {}
        self.repeated = 0
        self._handle, self._remember, self._report = handle, remember, report
        self._handled_up_to: dict[TopicPartition, int] = {}
        self._assigned = Assigned()
        self._consumer: Any = KafkaConsumer(
            **client, group_id=group, enable_auto_commit=False, auto_offset_reset="earliest"
        )
        self._consumer.subscribe([topic], listener=self._assigned)

    def step(self) -> int:
        """Take what has come, and commit it; returns how many records that were."""
        polled = self._consumer.poll(timeout_ms=POLL_MS)
        fresh, self._assigned.fresh = self._assigned.fresh, set()
        for part in fresh:
            self._go_back(part)
        batches = {part: batch for part, batch in polled.items() if part not in fresh}
        for part, batch in batches.items():
            for record in batch:
                self._take(part, record)
        self._commit({part: batch[-1].offset + 1 for part, batch in batches.items()})
        return sum(map(len, batches.values()))

    def close(self) -> None:
        """Leave the group; what was not committed will come again."""
        self._consumer.close()

    def _go_back(self, part: TopicPartition) -> None:
        """Read a partition from before its committed offset: what lies before it is only remembered."""
        committed = self._consumer.committed(part)
        first = self._consumer.beginning_offsets([part])[part]
        if committed is not None and committed < first:
            self._report(f"{part.topic}-{part.partition}: offsets {committed} to {first - 1} are gone: read too late")
        self.memory[part] = RecentIds(self._remember)
        self._handled_up_to[part] = first if committed is None else max(committed, first)
        self._consumer.seek(part, max(first, self._handled_up_to[part] - self._remember))

    def _take(self, part: TopicPartition, record: Any) -> None:
        try:
            event = json.loads(record.value)
            anomaly_id = event["anomalyId"]
        except (ValueError, TypeError, KeyError):
            self._report(f"{part.topic}-{part.partition}: offset {record.offset} is no anomaly and is passed over")
            return
        known = self.memory[part]
        if record.offset >= self._handled_up_to[part]:
            if anomaly_id in known and not is_recomputed(record):
                self.repeated += 1
            else:
                self._handle(event)
        known.add(anomaly_id)

    def _commit(self, ends: dict[TopicPartition, int]) -> None:
        """What was read again to be remembered moves no offset back."""
        forward = {part: end for part, end in ends.items() if end > self._handled_up_to[part]}
        if not forward:
            return
        try:
            self._consumer.commit({part: OffsetAndMetadata(end, "", -1) for part, end in forward.items()})
        except (CommitFailedError, RebalanceInProgressError):
            self._report("another member took a partition over before the commit: it will see the last records again")
        else:
            self._handled_up_to.update(forward)


def main(argv: Sequence[str] | None = None) -> int:
    """Print each anomaly once, until a signal, or until nothing has come for a while."""
    parser = argparse.ArgumentParser(description="Print each anomaly of a topic once, one JSON document a line.")
    parser.add_argument("--bootstrap-servers", default="127.0.0.1:9092", metavar="HOST:PORT")
    parser.add_argument("--topic", default="anomalies")
    parser.add_argument("--group", default="anomaly-consumer", help="offsets are kept under this name")
    parser.add_argument("--remember", type=int, default=100_000, help="ids kept a partition (100000, some 20 MB)")
    parser.add_argument("--until-idle", type=float, metavar="S", help="end after so many seconds without a record")
    args = parser.parse_args(argv)
    if args.remember < 1:
        parser.error(f"--remember {args.remember}: give at least 1")
    try:
        consumer = AnomalyConsumer(
            args.topic, args.group, _print, remember=args.remember, report=_report,
            bootstrap_servers=args.bootstrap_servers.split(","),
        )  # fmt: skip
    except (KafkaError, ValueError, OSError) as error:
        _report(f"no broker answers at {args.bootstrap_servers}: {type(error).__name__}")
        return 4
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        last = time.monotonic()
        while args.until_idle is None or time.monotonic() - last < args.until_idle:
            if consumer.step():
                last = time.monotonic()
    except KeyboardInterrupt:
        pass
    finally:
        consumer.close()
        _report(f"{consumer.repeated} repeats passed over")
    return 0


def _print(event: dict[str, Any]) -> None:
    print(json.dumps(event, ensure_ascii=False), flush=True)


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
