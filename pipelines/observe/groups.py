"""What the queries have read, committed to consumer groups: Spark itself commits none, and lag tools look there."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.structs import OffsetAndMetadata

from pipelines.observe.progress import Offsets, Positions
from pipelines.settings import Kafka
from pipelines.topics import client_options


class GroupCommits:
    """Commits the newest positions of each query to the group `<prefix>-<query>`. A sample of `Sampler`.

    The queries start from their checkpoints and never read a group: whatever goes wrong here costs a figure.
    """

    def __init__(self, kafka: Kafka, prefix: str, positions: Positions) -> None:
        self._kafka = kafka
        self._prefix = prefix
        self._positions = positions
        self._done: dict[str, Offsets] = {}
        self._admin: Any = None

    def __call__(self) -> None:
        """Commit what has moved. Raises what the client raises; the next call tries again with a new connection."""
        for query, read in self._positions.all().items():
            if self._done.get(query) != read:
                self._commit(query, read)
                self._done[query] = read

    def _commit(self, query: str, read: Offsets) -> None:
        offsets = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
            for topic, partitions in read.items()
            for partition, offset in partitions.items()
        }
        try:
            self._admin = self._admin or KafkaAdminClient(**client_options(self._kafka), bootstrap_timeout_ms=2000)
            self._admin.alter_group_offsets(f"{self._prefix}-{query}", offsets)
        except Exception:  # a client in an unknown state is not asked again
            self._drop()
            raise

    def _drop(self) -> None:
        admin, self._admin = self._admin, None
        if admin is not None:
            with suppress(Exception):
                admin.close()
