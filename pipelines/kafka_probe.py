"""What `gridwatch check` finds out about a Kafka that answers, without writing to it: topics, rights, clock."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError

from pipelines.conf_files import conf_path
from pipelines.durations import format_seconds
from pipelines.errors import InfrastructureUnavailable
from pipelines.settings import Settings
from pipelines.topics import client_options

_WATCH_S = 2.5
_AHEAD_S, _BEHIND_S = 1.0, 5.0
"""A broker's clock may be so far ahead of ours, or behind, before it is told: a record takes a moment to get here."""
_APPEND_TIME_TYPE = 1

_PROGRAMS = ("pipeline", "alerts", "notify", "console")
"""Those of conf/security/kafka-acls.toml that come with these settings."""
_COMPACTED = ("incidents", "actions")


@dataclass(frozen=True)
class TopicFacts:
    """One topic as its brokers describe it."""

    kind: str
    name: str
    partitions: int
    replicas: int
    """The least number of replicas of a partition."""
    offline: int
    """Partitions without a leader."""
    behind: int
    """Partitions of which not all replicas are in sync."""
    configs: Mapping[str, str]
    """Empty when we may not read them."""
    operations: frozenset[str]
    """What we may do with it; empty when the brokers do not say."""


def topic_facts(settings: Settings) -> list[TopicFacts]:
    """Every topic of the settings that exists. Raises InfrastructureUnavailable when the brokers do not answer."""
    kinds = {name: kind for kind, name in settings.kafka.topics.model_dump().items()}
    try:
        with closing(KafkaAdminClient(**client_options(settings.kafka))) as admin:
            there = [name for name in admin.list_topics() if name in kinds]
            described = admin.describe_topics(there) if there else []
            resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in there]
            configs = admin.describe_configs(resources, config_filter="all") if there else {}
    except (KafkaError, OSError) as error:
        raise InfrastructureUnavailable(f"{settings.kafka.bootstrap_servers}: {type(error).__name__}") from None
    by_name = {name: values for group in configs.values() for name, values in group.items()}
    return [_facts(kinds[one["name"]], one, by_name.get(one["name"], {})) for one in described]


def topic_problems(facts: list[TopicFacts], settings: Settings) -> Iterator[str]:
    """What is not as it should be, a line each; nothing of it stops a start."""
    kafka = settings.kafka
    for one in facts:
        if one.offline:
            yield f"{one.name}: {one.offline} of {one.partitions} partitions have no leader"
        if one.behind:
            yield f"{one.name}: {one.behind} of {one.partitions} partitions have a replica that is not in sync"
        if one.replicas < kafka.replication_factor:
            yield f"{one.name} has {one.replicas} replicas, kafka.replication_factor = {kafka.replication_factor}"
        least = int(one.configs.get("min.insync.replicas", kafka.min_insync_replicas))
        if least < kafka.min_insync_replicas:
            yield (
                f"{one.name} takes a record with {least} in-sync replicas, kafka.min_insync_replicas ="
                f" {kafka.min_insync_replicas}: set min.insync.replicas"
            )
        if one.kind in _COMPACTED and "compact" not in one.configs.get("cleanup.policy", "compact"):
            yield f"{one.name} is not compacted: set cleanup.policy=compact"
        kept_ms = int(one.configs.get("retention.ms", -1))
        if one.kind in ("readings", "anomalies", "ticks") and 0 <= kept_ms < kafka.retention * 1000:
            yield (
                f"{one.name} keeps records for {format_seconds(kept_ms / 1000)}, kafka.retention ="
                f" {format_seconds(kafka.retention)}: a longer downtime loses readings"
            )


def missing_rights(facts: list[TopicFacts]) -> dict[str, list[str]]:
    """For each program the rights on topics that it needs and this user does not have, such as `WRITE on anomalies`.

    A user for each program, as docs/security.md has it, lacks those of the others. Rights on groups are not asked.
    """
    table = tomllib.loads(conf_path("security/kafka-acls.toml").read_text(encoding="utf-8"))
    return {
        program: [
            f"{right} on {one.name}"
            for one in facts
            if one.operations
            for right in table[program].get(one.kind, ())
            if right not in one.operations
        ]
        for program in _PROGRAMS
    }


def broker_clock(settings: Settings) -> tuple[bool, str]:
    """Whether the broker's clock agrees with ours as far as records can tell, and what they tell.

    Waits a moment for a new reading: its append time is now. Without one only a stamp of the future tells something.
    """
    topic = settings.kafka.topics.readings
    with closing(KafkaConsumer(**client_options(settings.kafka), enable_auto_commit=False)) as consumer:
        partitions = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
        if not partitions:
            return True, f"{topic} is not there"
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        firsts = consumer.beginning_offsets(partitions)
        for partition in partitions:
            consumer.seek(partition, max(firsts[partition], ends[partition] - 1))
        newest_ms, ahead_s = _watch(consumer, ends)
    if newest_ms is None:
        return True, f"{topic} is empty: nothing to compare with"
    if ahead_s is None:
        ahead_s = newest_ms / 1000 - time.time()
        if ahead_s <= _AHEAD_S:
            return True, f"no reading came within {_WATCH_S:g} s; the newest is {_rounded(-ahead_s)} old"
    agrees = -_BEHIND_S <= ahead_s <= _AHEAD_S
    way = "ahead of" if ahead_s > 0 else "behind"
    return agrees, f"the broker's clock is {abs(ahead_s):.1f} s {way} this machine's, by the newest reading"


def _watch(consumer: Any, ends: Mapping[TopicPartition, int]) -> tuple[int | None, float | None]:
    """The newest append time seen, in epoch ms, and how far ahead of us the clock was when a new reading came."""
    deadline = time.monotonic() + _WATCH_S
    newest: int | None = None
    while time.monotonic() < deadline:
        for partition, records in consumer.poll(timeout_ms=200).items():
            for record in records:
                if record.timestamp_type != _APPEND_TIME_TYPE:
                    continue
                newest = max(newest or 0, record.timestamp)
                if record.offset >= ends[partition]:
                    return newest, record.timestamp / 1000 - time.time()
    return newest, None


def _facts(kind: str, described: Mapping[str, Any], configs: Mapping[str, Any]) -> TopicFacts:
    partitions = described["partitions"]
    values = {name: found.get("value") if isinstance(found, dict) else found for name, found in configs.items()}
    return TopicFacts(
        kind=kind,
        name=described["name"],
        partitions=len(partitions),
        replicas=min((len(one["replica_nodes"]) for one in partitions), default=0),
        offline=sum(one["leader_id"] < 0 for one in partitions),
        behind=sum(len(one["isr_nodes"]) < len(one["replica_nodes"]) for one in partitions),
        configs={name: str(value) for name, value in values.items() if value is not None},
        operations=frozenset(described.get("authorized_operations") or ()),
    )


def _rounded(seconds: float) -> str:
    """A duration a person reads.

    >>> _rounded(7.4), _rounded(4000.0)
    ('7 s', '67 min')
    """
    units = (("d", 2 * 86400, 86400), ("h", 2 * 3600, 3600), ("min", 120, 60))
    return next((f"{seconds / size:.0f} {name}" for name, least, size in units if seconds >= least), f"{seconds:.0f} s")
