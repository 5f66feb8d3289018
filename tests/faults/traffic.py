"""The verifiable producer: a small fleet whose every record is logged with the partition and offset Kafka acked."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError

from generator.malformed import FUTURE, VARIANTS, make_malformed

CADENCE_MS = 10_000
METERS = 20
SPIKE_V, NORMAL, SPIKE, LATE, RESENT, MALFORMED, ODD = 280.0, "normal", "spike", "late", "resent", "malformed", "odd"
LATE_BY_MS = 600_000
_KINDS = (NORMAL,) * 88 + (SPIKE,) * 4 + (LATE,) * 2 + (RESENT,) * 2 + (MALFORMED,) * 4
_RESENT_AFTER = 3


class Sent(NamedTuple):
    """An acked record: where Kafka put it, what it was (one of the kinds above) and of which variant."""

    partition: int
    offset: int
    kind: str
    variant: str
    value: bytes | None


class Traffic:
    """Sends polls of a fleet: every meter reads once a poll, the data's clock moves by one cadence.

    `acked` grows only when the broker has confirmed; `unknown` counts what it neither confirmed nor refused, and what
    may therefore stand in the topic or not. Not for use from two threads, but for `running`, which is its own.
    """

    def __init__(self, bootstrap_servers: str, topic: str, *, seed: int, meters: int = METERS) -> None:
        self.topic = topic
        self.meters = tuple(f"m-{number:03d}" for number in range(meters))
        self.acked: list[Sent] = []
        self.unknown = 0
        self._servers = bootstrap_servers
        self._rng = random.Random(seed)
        self._now_ms = (int(time.time()) - 20 * 86_400) * 1000
        self._again: list[tuple[int, str, bytes]] = []
        self._polls = self._broken = 0
        self._producer: KafkaProducer | None = None

    def send_polls(self, count: int, *, per_second: float = 50.0) -> None:
        """Send so many polls, evenly, and wait for Kafka's word on each."""
        began = time.monotonic()
        for done in range(count):
            time.sleep(max(0.0, began + done / per_second - time.monotonic()))
            self._confirm(list(self._poll()))

    def send_values(
        self, values: Sequence[tuple[str, bytes | None]], *, kind: str = ODD, variant: str = "", partition: Any = None
    ) -> list[Sent]:
        """Send (key, value) as they are; returns what was acked."""
        before = len(self.acked)
        self._confirm([(kind, variant, key, value) for key, value in values], partition=partition)
        return self.acked[before:]

    @contextmanager
    def running(self, per_second: float = 4.0) -> Iterator[None]:
        """Polls are sent in the background for as long as the block lasts."""
        over = threading.Event()

        def work() -> None:
            while not over.wait(1 / per_second):
                self._confirm(list(self._poll()))

        thread = threading.Thread(target=work, name="traffic", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(150)

    def close_windows(self) -> None:
        """Polls without oddities, enough for the watermark to pass every window so far."""
        for _ in range(40):
            self._confirm([(NORMAL, "", meter, self._reading(meter)) for meter in self.meters])
            self._now_ms += CADENCE_MS

    def reading(self, meter: str, *, voltage: float, **changes: Any) -> bytes:
        """A document of this meter at the data's present moment, which moves on by a millisecond."""
        self._now_ms += 1
        return self._reading(meter, voltage=voltage, **changes)

    @property
    def now_ms(self) -> int:
        """The data's clock."""
        return self._now_ms

    def close(self) -> None:
        """Close the producer."""
        if self._producer is not None:
            self._producer.close(timeout=5)
            self._producer = None

    def _poll(self) -> Iterator[tuple[str, str, str, bytes | None]]:
        self._polls += 1
        due = [again for again in self._again if again[0] <= self._polls]
        self._again = [again for again in self._again if again[0] > self._polls]
        for _, meter, value in due:
            yield RESENT, "", meter, value
        for meter in self.meters:
            yield from self._one(meter)
        self._now_ms += CADENCE_MS

    def _one(self, meter: str) -> Iterator[tuple[str, str, str, bytes | None]]:
        kind = self._rng.choice(_KINDS)
        value = self._reading(meter, voltage=SPIKE_V if kind == SPIKE else None)
        if kind == LATE:
            yield LATE, "", meter, self._reading(meter, ahead_ms=-LATE_BY_MS)
        if kind == RESENT:
            self._again.append((self._polls + _RESENT_AFTER, meter, value))
            kind = NORMAL
        if kind == MALFORMED:
            variant = VARIANTS[self._broken % len(VARIANTS)]
            self._broken += 1
            clock = {"timestamp": int(time.time() * 1000) + 3_600_000} if variant == FUTURE else {}
            yield (
                MALFORMED,
                variant,
                meter,
                make_malformed(variant, json.dumps({**json.loads(value), **clock}).encode()),
            )
            kind = NORMAL
        yield (NORMAL if kind == LATE else kind), "", meter, value

    def _reading(self, meter: str, *, voltage: float | None = None, ahead_ms: int = 0, **changes: Any) -> bytes:
        volts = round(self._rng.gauss(230, 1), 1) if voltage is None else voltage
        jitter = self._rng.randrange(CADENCE_MS - 2000)
        return json.dumps(
            {
                "meterId": meter, "timestamp": self._now_ms + ahead_ms + jitter, "voltage": volts,
                "current": round(self._rng.uniform(1, 20), 2), "temperature": round(self._rng.uniform(10, 40), 1),
                "status": "OK", **changes,
            },
            separators=(",", ":"),
        ).encode()  # fmt: skip

    def _confirm(self, records: Sequence[tuple[str, str, str, bytes | None]], *, partition: Any = None) -> None:
        waiting = [
            (kind, variant, value, self._send(key.encode(), value, partition)) for kind, variant, key, value in records
        ]
        for kind, variant, value, future in waiting:
            try:
                place = future.get(timeout=130)
            except KafkaError:
                self.unknown += 1
                continue
            self.acked.append(Sent(place.partition, place.offset, kind, variant, value))

    def _send(self, key: bytes, value: bytes | None, partition: Any) -> Any:
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=self._servers, acks="all", enable_idempotence=True, linger_ms=2,
                max_request_size=2_000_000, metadata_max_age_ms=2000,
            )  # fmt: skip
        return self._producer.send(self.topic, key=key, value=value, partition=partition)
