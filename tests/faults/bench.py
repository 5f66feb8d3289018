"""What all rows share: one broker with a listener behind a proxy, a store behind one, and places of their own."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipelines.local.broker import RunningBroker, start_broker
from pipelines.local.broker_cluster import BrokerCluster, start_brokers
from pipelines.local.objectstore import RunningObjectStore, start_objectstore
from pipelines.local.ports import LOOPBACK, free_ports
from pipelines.local.spark_kit import spark_kit
from tests.faults.kafka_proxy import KafkaProxy
from tests.faults.scene import Scene
from tests.faults.store_proxy import StoreProxy
from tests.faults.traffic import METERS
from tests.integration.support import Place, end_leftovers

Say = Callable[[str], None]
_QUICK_SESSION = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}


@dataclass
class Bench:
    """Starts parts when a row asks for them, and ends them all at its own end."""

    folder: Path
    seed: int
    say: Say
    kills: int = 3
    short: bool = True
    """Shorter outages and fewer repetitions."""
    _parts: ExitStack = field(default_factory=ExitStack)
    _made: dict[str, Any] = field(default_factory=dict)
    _scenes: list[Scene] = field(default_factory=list)

    def rng(self, row: int) -> random.Random:
        """Dice of a row: the same for the same seed, whichever rows run before it."""
        return random.Random(f"{self.seed}/{row}")

    @property
    def broker(self) -> RunningBroker:
        """The broker; its second listener advertises the proxy's address."""
        return self._once("broker", self._start_broker)

    @property
    def proxy(self) -> KafkaProxy:
        """The proxy before the broker's second listener."""
        self.broker  # noqa: B018 - it makes the proxy
        return self._made["proxy"]

    @property
    def brokers(self) -> BrokerCluster:
        """Three brokers without a proxy: each is a process that a row may kill."""
        return self._once("brokers", lambda: self._parts.enter_context(start_brokers(self.folder / "three-brokers")))

    @property
    def store(self) -> RunningObjectStore:
        """A real MinIO."""
        return self._once("store", self._start_store)

    @property
    def store_proxy(self) -> StoreProxy:
        """The proxy before the store."""
        dice = self.rng(0)
        store = self.store
        return self._once(
            "store_proxy", lambda: self._parts.enter_context(StoreProxy(free_ports(1)[0], store.port, dice.random))
        )

    @property
    def main(self) -> Scene:
        """The scene most rows share: tables in a folder, Kafka through the proxy, the pipeline running when asked."""
        return self._once("main", lambda: self.scene("main"))

    @property
    def on_store(self) -> Scene:
        """The scene whose tables lie in the store, behind its proxy."""
        return self._once("on_store", self._make_on_store)

    def scene(
        self, name: str, *, kafka: BrokerCluster | None = None, meters: int = METERS, **settings: object
    ) -> Scene:
        """A scene of its own: topics, tables, checkpoint. Without `kafka` it has the one broker, behind the proxy."""
        folder = self.folder / f"{name}-{len(self._scenes)}"
        folder.mkdir(parents=True)
        servers = kafka.bootstrap_servers if kafka else self.proxy.address
        place = Place(folder, servers).with_settings(**settings)
        direct = place if kafka else replace(place, bootstrap_servers=self.broker.bootstrap_servers)
        made = Scene(self, place, direct=direct)
        self._scenes.append(made)
        made.open(seed=self.seed + len(self._scenes), meters=meters)
        return made

    @contextmanager
    def healed(self) -> Iterator[None]:
        """Whatever the block did to the proxies is undone at its end."""
        try:
            yield
        finally:
            for name in ("proxy", "store_proxy"):
                if name in self._made:
                    self._made[name].heal()

    def forget_shared(self) -> None:
        """Stop the shared scenes; who asks next gets new ones."""
        for name in ("main", "on_store"):
            if name in self._made:
                self._made.pop(name).close()

    def close(self) -> None:
        """End everything that was started."""
        for scene in self._scenes:
            scene.close()
            end_leftovers(scene.place.mark)
        self._parts.close()

    def __enter__(self) -> Self:
        spark_kit(self.say)  # a pipeline that is killed amid its first download is not what the rows are about
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def _start_broker(self) -> RunningBroker:
        port, controller, behind, proxied = free_ports(4)
        names = {"PLAINTEXT": port, "BEHIND": behind}
        listeners = [f"{name}://{LOOPBACK}:{number}" for name, number in names.items()]
        extra = {
            "listeners": ",".join([*listeners, f"CONTROLLER://{LOOPBACK}:{controller}"]),
            "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port},BEHIND://{LOOPBACK}:{proxied}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
            **_QUICK_SESSION,
        }
        began = time.monotonic()
        broker = self._parts.enter_context(start_broker(self.folder / "kafka", port=port, extra=extra))
        self._made["proxy"] = self._parts.enter_context(KafkaProxy(proxied, behind))
        self.say(f"broker at {broker.address}, proxy at {proxied}, after {time.monotonic() - began:.1f} s")
        return broker

    def _start_store(self) -> RunningObjectStore:
        store = self._parts.enter_context(start_objectstore(self.folder / "minio"))
        store.create_bucket("gridwatch")
        return store

    def _make_on_store(self) -> Scene:
        return self.scene(
            "on-store",
            lake__root=f"s3a://gridwatch/lake-{len(self._scenes)}", store__endpoint=self.store_proxy.endpoint,
            store__access_key=self.store.access_key, store__secret_key=self.store.secret_key,
        )  # fmt: skip
