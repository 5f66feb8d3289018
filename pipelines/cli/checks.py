"""What `gridwatch check` tries, one after the other, and `gridwatch doctor` in part; nothing is changed."""

from __future__ import annotations

import email.utils
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.addresses import is_store
from pipelines.cli.output import say
from pipelines.errors import DataRefused, GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.settings import Settings

_PATIENCE_S = 5.0
"""`check` answers soon: it waits this long for Kafka, and not `kafka.connect_timeout`."""
_STORE_WARNS_S, _STORE_REFUSES_S = 60.0, 900.0
"""S3 refuses a request whose clock is 15 minutes off."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried: `ok`, `warning`, `failed` or, when what it needs has failed, `skipped`."""

    name: str
    result: str
    detail: str
    exit_code: int = 0


class Warned(Exception):
    """Raised by an attempt that found something to know."""


def run_checks(settings: Settings, *, sample: int = 0) -> Iterator[Check]:
    """Try each part and yield what was found, in order; a failure carries the next command."""
    kafka = tried("kafka", lambda: reach_kafka(settings))
    yield kafka
    if kafka.exit_code:
        yield Check("topics", "skipped", "Kafka does not answer")
    else:
        topics = tried("topics", lambda: look_at_topics(settings))
        yield topics
        yield tried("topic settings", lambda: _topic_settings(settings))
        yield tried("permissions", lambda: _permissions(settings))
        yield tried("broker clock", lambda: look_at_broker_clock(settings))
        if sample:
            skipped = Check("sample", "skipped", "the topics are not as they must be")
            yield skipped if topics.exit_code else tried("sample", lambda: _sample(settings, sample))
    if is_store(settings.lake.root):
        yield tried("store clock", lambda: look_at_store_clock(settings))
    yield tried("lake", lambda: _lake(settings))
    yield tried("meters", lambda: _meters(settings))


def tried(name: str, attempt: Callable[[], str]) -> Check:
    """What an attempt says, or the warning or error it raises."""
    try:
        return Check(name, "ok", attempt())
    except Warned as finding:
        return Check(name, "warning", str(finding))
    except GridwatchError as error:
        return Check(name, "failed", str(error), error.exit_code)


def reach_kafka(settings: Settings) -> str:
    """Whether a broker answers soon."""
    from pipelines.topics import wait_for_kafka

    patience = min(_PATIENCE_S, settings.kafka.connect_timeout)
    wait_for_kafka(settings.kafka.model_copy(update={"connect_timeout": patience}), say)
    return f"{settings.kafka.bootstrap_servers} answers"


def look_at_topics(settings: Settings) -> str:
    """Whether the topics are there, and the readings' clock is the broker's."""
    from pipelines.topics import check_topics

    check_topics(settings)
    return f"all {len(settings.kafka.topics.model_dump())} are there, and the broker's clock stamps the readings"


def _topic_settings(settings: Settings) -> str:
    from pipelines.kafka_probe import topic_facts, topic_problems

    facts = topic_facts(settings)
    if problems := list(topic_problems(facts, settings)):
        raise Warned("; ".join(problems))
    return ", ".join(f"{one.name} {one.partitions}" for one in facts) + " partitions; kept long enough, led and copied"


def _permissions(settings: Settings) -> str:
    from pipelines.kafka_probe import missing_rights, topic_facts

    facts = topic_facts(settings)
    user = settings.kafka.sasl_username or "an unnamed user"
    missing = missing_rights(facts)
    if all(missing.values()):
        program, lacks = min(missing.items(), key=lambda one: len(one[1]))
        raise SettingsError(
            f"{user} may run no program: even {program} lacks {', '.join(lacks)}; grant it with your broker's ACLs"
            " (conf/security/kafka-acls.toml)"
        )
    if not all(one.operations for one in facts):
        raise Warned("the brokers do not say what we may do with the topics")
    return f"{user} may do with the topics what {', '.join(name for name, lacks in missing.items() if not lacks)} need"


def look_at_broker_clock(settings: Settings) -> str:
    """Whether the broker's clock agrees with this machine's; warns when not."""
    from pipelines.client_errors import as_ours
    from pipelines.kafka_probe import broker_clock

    with as_ours(settings):
        agrees, said = broker_clock(settings)
    if not agrees:
        raise Warned(f"{said}: set both by NTP; delays and alerts are measured against it")
    return said


def look_at_store_clock(settings: Settings) -> str:
    """Whether the store's clock agrees with this machine's; warns before the store refuses."""
    from pipelines.store_tls import trust_in_this_process

    trust_in_this_process(settings.store)
    where = settings.store.endpoint or f"https://s3.{settings.store.region}.amazonaws.com"
    try:
        with urllib.request.urlopen(urllib.request.Request(where, method="HEAD"), timeout=_PATIENCE_S) as answer:
            date = answer.headers.get("Date")
    except urllib.error.HTTPError as refusal:  # a store refuses who asks without keys, and says its time all the same
        date = refusal.headers.get("Date")
    except OSError as error:
        raise InfrastructureUnavailable(f"{where} does not answer: {error}; set GRIDWATCH_STORE__ENDPOINT") from None
    if not date:
        raise Warned(f"{where} does not say its time")
    ahead_s = email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    said = f"the store's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's"
    if abs(ahead_s) >= _STORE_REFUSES_S:
        raise InfrastructureUnavailable(f"{said}: S3 refuses every request; set this machine's clock by NTP")
    if abs(ahead_s) >= _STORE_WARNS_S:
        raise Warned(f"{said}: at 15 min S3 refuses every request")
    return said


def _lake(settings: Settings) -> str:
    from pipelines.lake_probe import probe_lake

    return probe_lake(settings)


def _meters(settings: Settings) -> str:
    from pipelines.fleet import read_fleet
    from pipelines.tables import METERS

    if not settings.lake.fleet:
        raise Warned(
            "lake.fleet is not set: without feeders and rated currents, feeder rules and overcurrent are silent"
        )
    known = read_fleet(Path(settings.lake.fleet), settings.detection)
    rows = [dict(zip(METERS.column_names, row, strict=True)) for row in known]
    feeders = {row["feeder_id"] for row in rows} - {None}
    lacking = [name for name in ("feeder_id", "phase", "rated_current_a") if any(row[name] is None for row in rows)]
    said = f"{len(rows):,} meters on {len(feeders):,} feeders in {settings.lake.fleet}"
    if lacking:
        raise Warned(f"{said}; some have no {', '.join(lacking)}")
    return said


def _sample(settings: Settings, count: int) -> str:
    from pipelines.sample import judge_sample

    report = judge_sample(settings, count)
    if not report.readings:
        raise DataRefused(f"{report.verdict}; look at input.fields and input.max_skew")
    if report.rejected:
        raise Warned(report.verdict)
    return report.verdict
