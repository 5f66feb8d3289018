"""The notifier: follows the topic incidents and delivers, until it is interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.notify.ledger import Ledger, Notice
from pipelines.notify.receivers import Alertmanager, Count, Outcome, Webhook, http_post
from pipelines.observe.lag import BrokerEnds, LagCollector
from pipelines.observe.metrics import NotifyMetrics
from pipelines.observe.progress import Positions
from pipelines.observe.serve import served
from pipelines.settings import Settings
from pipelines.topics import check_topics, client_options, wait_for_kafka

Say = Callable[[str], None]
Receiver = Webhook | Alertmanager

READY = "gridwatch notify is following"
QUERY = "notify"
_POLL_MS = 500
_COMMIT_AGAIN_S = 3600.0
"""Kafka forgets an offset 7 days after its last commit; after a quiet week the next start would be a first one."""
_RECORDS = 500


def run_notifier(settings: Settings, say: Say) -> None:
    """Deliver until interrupted. A notification is delivered at least once: after a crash the newest may come again.

    Raises SettingsError without any receiver, InfrastructureUnavailable when Kafka is gone.
    """
    if not (settings.notify.alertmanager or settings.notify.webhooks):
        raise SettingsError(
            "nobody to notify: set notify.alertmanager, or GRIDWATCH_NOTIFY__WEBHOOK_CRITICAL, _ERROR, _WARNING"
        )
    wait_for_kafka(settings.kafka, say)
    check_topics(settings)
    metrics = NotifyMetrics()
    host, port = settings.metrics.host, settings.metrics.notify_port
    ends, positions = BrokerEnds(settings.kafka), Positions()
    metrics.registry.register(LagCollector(ends, positions.all))
    try:
        with ExitStack() as stack:
            stack.enter_context(served(metrics.registry, host, port, say))
            stack.callback(ends.close)
            notifier = stack.enter_context(closing(Notifier(settings, metrics, positions, say)))
            stack.callback(metrics.up.set, 0)
            notifier.recall()
            metrics.up.set(1)
            say(f"{READY} {settings.kafka.topics.incidents}, telling {', '.join(notifier.names)}")
            while True:
                notifier.step()
    except KafkaError as error:
        raise InfrastructureUnavailable(f"{settings.kafka.bootstrap_servers}: {error}") from None


class Notifier:
    """One life: the ledger rebuilt from the compacted topic, receivers, and the offset up to which all is delivered."""

    def __init__(self, settings: Settings, metrics: NotifyMetrics, positions: Positions, say: Say) -> None:
        self._settings = settings
        self._metrics = metrics
        self._positions = positions
        self._say = say
        self._ledger = Ledger()
        self._part = TopicPartition(settings.kafka.topics.incidents, 0)
        self._consumer: Any = KafkaConsumer(
            **client_options(settings.kafka),
            group_id=settings.notify.group,
            enable_auto_commit=False,
            max_poll_records=_RECORDS,
        )
        self._consumer.assign([self._part])
        self._receivers: list[Receiver] = []
        self._committed: int | None = None
        self._committed_s = float("-inf")

    @property
    def names(self) -> list[str]:
        """Of the receivers."""
        return [receiver.name for receiver in self._receivers]

    def recall(self) -> None:
        """Read the topic from its beginning up to what was delivered; nothing is said of it again.

        In order, every record that compaction has left: the newest one alone does not say what was told before it.
        Without a committed offset, i.e. on the very first start, up to its end: of what stands there only the open
        incidents are told.
        """
        self._committed = self._consumer.committed(self._part)
        end = self._consumer.end_offsets([self._part])[self._part]
        until = end if self._committed is None else min(self._committed, end)
        fresh: list[Notice | None] = []
        if self._committed is None:
            for record in self._newest_until(until):
                notice = self._notice(record)
                fresh.append(notice if notice and notice.kind != "closed" else None)
        else:
            for record in self._records_until(until):
                self._notice(record)
        self._receivers = self._make_receivers()
        self._put(fresh)

    def step(self) -> None:
        """Read what is new, tell it, try again what failed, remember what is delivered."""
        for record in self._poll():
            self._put([self._notice(record)])
        now = time.monotonic()
        notify = self._settings.notify
        self._put(self._ledger.reminders(now, every_s=notify.repeat, most=notify.max_repeats))
        for receiver in self._receivers:
            receiver.deliver(now)
            self._metrics.pending.labels(receiver.name).set(receiver.waiting)
        self._commit()

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _notice(self, record: Any) -> Notice | None:
        if record.value is None:
            return self._ledger.remove(record.key.decode(), record.offset)
        return self._ledger.take(json.loads(record.value), record.offset, time.monotonic())

    def _newest_until(self, until: int) -> Iterable[Any]:
        """The newest record of each incident before an offset, tombstones included."""
        return {record.key: record for record in self._records_until(until)}.values()

    def _records_until(self, until: int) -> Iterator[Any]:
        """The records before an offset; what is polled next begins there."""
        self._consumer.seek_to_beginning(self._part)
        while self._consumer.position(self._part) < until:
            yield from (record for record in self._poll() if record.offset < until)
        self._consumer.seek(self._part, until)

    def _poll(self) -> list[Any]:
        return [record for batch in self._consumer.poll(timeout_ms=_POLL_MS).values() for record in batch]

    def _put(self, notices: Any) -> None:
        for notice in notices:
            if notice is not None:
                for receiver in self._receivers:
                    receiver.put(notice)

    def _commit(self) -> None:
        waiting = [receiver.oldest_offset for receiver in self._receivers]
        done = min([o for o in waiting if o is not None], default=self._consumer.position(self._part))
        self._positions.put(QUERY, {self._part.topic: {0: done}})
        now = time.monotonic()
        if done != self._committed or now - self._committed_s >= _COMMIT_AGAIN_S:
            self._consumer.commit({self._part: OffsetAndMetadata(done, "", -1)})
            self._committed, self._committed_s = done, now

    def _make_receivers(self) -> list[Receiver]:
        notify = self._settings.notify
        post, count = http_post(notify.timeout), _counter(self._metrics)
        made: list[Receiver] = [
            Webhook(severity, url, post, count, most_s=notify.retry_most) for severity, url in notify.webhooks.items()
        ]
        if notify.alertmanager:
            made.append(
                Alertmanager(
                    notify.alertmanager, post, count, most_s=notify.retry_most, refresh_s=notify.refresh,
                    open_ones=self._ledger.open(),
                )
            )  # fmt: skip
        return made


def _counter(metrics: NotifyMetrics) -> Count:
    def count(receiver: str, severity: str, outcome: Outcome) -> None:
        metrics.notifications.labels(receiver, severity, outcome).inc()
        if outcome == "sent":
            metrics.last_success.labels(receiver).set_to_current_time()

    return count
