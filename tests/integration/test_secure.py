"""Everything under lock and key, as an operator would run it: TLS, users with least rights, and no secret anywhere."""

from __future__ import annotations

import json
import os
import re
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from pipelines.alerts import READY
from pipelines.console.serve import READY as SHOWN
from pipelines.errors import InfrastructureUnavailable, SettingsError
from pipelines.local.minio_build import why_no_minio
from pipelines.local.ports import free_port
from pipelines.notify.run import READY as FOLLOWING
from pipelines.settings_load import load_settings
from pipelines.topics import client_options, wait_for_kafka
from tests.integration.secure import PRINCIPALS, SecureBroker, secure_broker
from tests.integration.secure_store import BUCKET, SecureStore, secure_store
from tests.integration.submit import DATA, submit
from tests.integration.support import (
    Place,
    end_leftovers,
    marked_processes,
    records_of,
    stopped,
    text_of,
    wait_for,
    wait_for_end,
    wait_for_text,
    wait_until_reading,
)

NO_MINIO = why_no_minio()
pytestmark = [
    pytest.mark.minio,
    pytest.mark.skipif(NO_MINIO is not None, reason=str(NO_MINIO)),
    pytest.mark.timeout(900),
]

HOSTILE = "canary-payload"
"""Stands in every part of a record that a stranger can write."""


@dataclass
class Secured:
    """A run as a user each, and what it left behind."""

    place: Place
    broker: SecureBroker
    store: SecureStore
    command_lines: list[str] = field(default_factory=list)
    pages: dict[str, str] = field(default_factory=dict)

    def as_user(self, principal: str, *, store_user: str = "writer") -> Place:
        """The place with one user's credentials."""
        more = self.broker.environment(principal) | self.store.environment(store_user)
        return replace(self.place, bootstrap_servers=self.broker.address, more={**self.place.more, **more})

    @property
    def pages_text(self) -> str:
        """All pages of the UI that were read."""
        return "".join(self.pages.values())

    @property
    def secrets(self) -> set[str]:
        """All passwords and keys that any program was given."""
        return {*self.broker.passwords.values(), *(key for _, key in self.store.keys.values())}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, package: Path) -> Iterator[Secured]:
    """Generator, pipeline (spark-submit with UI and event log), alerts, one more member; then a look from outside."""
    folder = tmp_path_factory.mktemp("secured")
    with secure_broker(folder / "kafka") as broker, secure_store(folder / "minio", broker.certificates) as store:
        (folder / "run").mkdir()
        place = Place(folder / "run", broker.broker.bootstrap_servers)
        run = Secured(place, broker, store)
        try:
            place.create_topics()
            broker.grant(place.settings)
            _run(run, package)
            yield run
        finally:
            end_leftovers(place.mark)


def _run(run: Secured, package: Path) -> None:
    events, ui = run.place.folder / "events", free_port()
    events.mkdir()
    options = ["--master", "local[2]", "--conf", "spark.ui.enabled=true", "--conf", f"spark.ui.port={ui}"]
    options += ["--conf", "spark.eventLog.enabled=true", "--conf", f"spark.eventLog.dir={events.as_uri()}"]
    writer, alerts = run.as_user("pipeline"), run.as_user("alerts", store_user="reader")
    with stopped(submit(writer, package, *options)) as pipeline:
        wait_until_reading(pipeline)
        with stopped(alerts.gridwatch("alerts", "alerts")) as job:
            wait_for_text(job, READY, 150)
            _send_hostile(run)
            _send_transaction(run.place)
            run.as_user("generator").generate(*DATA)
            wait_for(pipeline, "the archive at the broker's end", writer.archived, 90)
            topic = run.place.settings.kafka.topics.anomalies
            wait_for(job, "an anomaly", lambda: bool(records_of(run.place.settings, topic)), 60)
            run.command_lines = list(marked_processes(run.place.mark).values())
            run.pages = {path: _page(ui, path) for path in _ui_paths(ui)}


def _send_hostile(run: Secured) -> None:
    """Text of a stranger in key, value, field names, ids and status: with path and line breaks, and log patterns."""
    evil = [HOSTILE, f"../../{HOSTILE}", f"{HOSTILE}\r\nERROR forged line", "${jndi:ldap://" + HOSTILE + "}"]
    now = int(time.time() * 1000) - 60_000
    values = [f"{HOSTILE} no json", json.dumps({HOSTILE: HOSTILE})]
    for number, text in enumerate(evil):
        good = {
            "meterId": f"m{number}",
            "timestamp": now,
            "voltage": 280.0,
            "current": 1,
            "temperature": 20,
            "status": text,
        }
        values += [json.dumps(good), json.dumps({**good, "meterId": text}), json.dumps({**good, text: text})]
    settings = run.as_user("generator").settings
    producer = KafkaProducer(**client_options(settings.kafka))
    for value in values:
        producer.send(settings.kafka.topics.readings, value.encode(), key=evil[2].encode()).get(timeout=30)
    producer.close()


def _send_transaction(place: Place) -> None:
    """By the admin, since no shipped user has a right on transactions: its marker makes `verify` read Kafka again."""
    producer = KafkaProducer(bootstrap_servers=place.bootstrap_servers, transactional_id=place.mark)
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(place.settings.kafka.topics.readings, b"in a transaction", partition=0)
    producer.commit_transaction()
    producer.close()


def _ui_paths(port: int) -> list[str]:
    (app,) = json.loads(_page(port, "/api/v1/applications"))
    api = f"/api/v1/applications/{app['id']}"
    return [
        "/environment/",
        "/jobs/",
        "/SQL/",
        "/StreamingQuery/",
        f"{api}/environment",
        f"{api}/sql?details=true&length=500",
    ]


def _page(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def test_with_least_rights_everything_is_archived_once(secured: Secured) -> None:
    report = secured.as_user("pipeline", store_user="reader").verify()
    assert report.ok, report.verdict
    assert report.lag == 0
    assert report.archived > 2500
    assert report.rejected > 4
    assert report.markers == 1


def test_notifier_and_console_run_with_their_rights(secured: Secured) -> None:
    notify = secured.as_user("notify").with_settings(
        notify__alertmanager=f"http://127.0.0.1:{free_port()}", metrics__notify_port=0
    )
    with stopped(notify.gridwatch("notify", "notify")) as notifier:
        wait_for_text(notifier, FOLLOWING, 60)
    port = free_port()
    console = secured.as_user("console", store_user="reader").with_settings(console__port=port)
    with stopped(console.gridwatch("console", "console")) as page:
        wait_for_text(page, SHOWN, 60)

        def health() -> dict[str, dict[str, object]]:
            found: dict[str, dict[str, object]] = json.loads(_page(port, "/api/state"))["health"]
            return found

        parts = ("feed", "kafka", "lake")
        wait_for(page, "Kafka and the tables", lambda: all(health().get(p, {}).get("ok") for p in parts), 60)


def test_the_reader_sees_what_was_found(secured: Secured) -> None:
    settings = secured.as_user("reader").settings
    assert records_of_user(settings, settings.kafka.topics.anomalies)
    rows = secured.as_user("reader", store_user="reader").ask("SELECT count(*) FROM readings")
    assert rows[0][0] > 0


@pytest.mark.parametrize(
    ("principal", "topic"),
    [("generator", "anomalies"), ("pipeline", "readings"), ("alerts", "incidents"), ("alerts", "readings"),
     ("reader", "anomalies"), ("reader", "readings")],
)  # fmt: skip
def test_a_user_cannot_write_where_it_has_no_business(secured: Secured, principal: str, topic: str) -> None:
    settings = secured.as_user(principal).settings
    producer = KafkaProducer(**client_options(settings.kafka), max_block_ms=10_000, enable_idempotence=False)
    try:
        with pytest.raises(TopicAuthorizationFailedError):
            producer.send(getattr(settings.kafka.topics, topic), b"x").get(timeout=20)
    finally:
        producer.close(timeout=2)


@pytest.mark.parametrize(
    ("principal", "topic"), [("generator", "readings"), ("reader", "readings"), ("alerts", "incidents")]
)
def test_a_user_cannot_read_where_it_has_no_business(secured: Secured, principal: str, topic: str) -> None:
    settings = secured.as_user(principal).settings
    with pytest.raises(KafkaError):
        records_of_user(settings, getattr(settings.kafka.topics, topic))


def records_of_user(settings: object, topic: str) -> list[object]:
    """The first records that a user is given; raises when it is refused."""
    consumer = KafkaConsumer(**client_options(settings.kafka), enable_auto_commit=False)  # type: ignore[attr-defined]
    try:
        parts = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if found := consumer.poll(timeout_ms=500):
                return [record for batch in found.values() for record in batch]
        raise KafkaError("nothing was handed out")
    finally:
        consumer.close()


def test_the_reading_policy_writes_nothing_and_the_writing_one_nothing_else(secured: Secured) -> None:
    table = f"{BUCKET}/lake/readings"
    with pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied|Access Denied"):
        secured.store.seen_by("reader").open_output_stream(f"{table}/x").close()
    with pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied|Access Denied"):
        secured.store.seen_by("writer").open_output_stream(f"{BUCKET}/elsewhere/x").close()
    with pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied|Access Denied"):
        secured.store.seen_by("writer").create_dir("another-bucket")


def test_no_secret_is_in_logs_ui_event_log_checkpoint_tables_or_command_lines(secured: Secured) -> None:
    folder = secured.place.folder
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert any("events" in name for name in files), "no event log was written"
    assert any("checkpoint" in name for name in files)
    assert "kafka.sasl" in secured.pages_text or "spark.app.name" in secured.pages_text
    places = {
        **files,
        **secured.store.objects(),
        **{f"UI {path}": page.encode() for path, page in secured.pages.items()},
        **{f"command line {n}": line.encode() for n, line in enumerate(secured.command_lines)},
        "broker": secured.broker.broker.log.read_bytes(),
    }
    assert len(secured.command_lines) >= 3
    found = [
        (place, secret[:9]) for place, text in places.items() for secret in secured.secrets if secret.encode() in text
    ]
    assert not found


def test_nothing_that_a_stranger_wrote_is_in_a_path_or_a_log_line(secured: Secured) -> None:
    logs = {path.name: text_of(path) for path in secured.place.folder.glob("*.log")}
    assert {"alerts.log", "spark-submit-pipeline.log"} <= set(logs)
    assert [name for name, text in logs.items() if HOSTILE in text or "forged line" in text] == []
    paths = [str(path) for path in secured.place.folder.rglob("*")] + list(secured.store.objects())
    assert [path for path in paths if HOSTILE in path] == []
    assert any(HOSTILE.encode() in content for content in secured.store.objects().values()), "nothing hostile came in"


def test_every_secret_setting_is_masked_where_settings_are_shown(secured: Secured) -> None:
    place = secured.as_user("pipeline")
    with stopped(place.gridwatch("check", "check")) as child:
        assert child.wait(60)
    said = text_of(child.log)
    assert "sasl_username" in said
    assert not [secret[:9] for secret in secured.secrets if secret in said]
    assert not [secret for secret in secured.secrets if secret in repr(place.settings)]


class TestRefusedAtOnce:
    """Waiting would not help, so nothing waits."""

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"SASL_PASSWORD": "canary-wrong"}, "the broker refuses user pipeline"),
            ({"SASL_USERNAME": "nobody"}, "the broker refuses user nobody"),
        ],
    )
    def test_wrong_credentials(self, secured: Secured, change: dict[str, str], says: str) -> None:
        more = secured.broker.environment("pipeline") | {f"GRIDWATCH_KAFKA__{k}": v for k, v in change.items()}
        self._refused(more, says)

    def test_a_broker_of_another_authority(self, secured: Secured) -> None:
        more = secured.broker.environment("pipeline")
        self._refused(more | {"GRIDWATCH_KAFKA__SSL_CAFILE": str(secured.broker.foreign_ca)}, "is not trusted")

    def test_an_authority_file_that_is_none(self, secured: Secured, tmp_path: Path) -> None:
        (tmp_path / "ca.pem").write_text("no certificate")
        settings = load_settings(
            environment=secured.broker.environment("pipeline")
            | {"GRIDWATCH_KAFKA__SSL_CAFILE": str(tmp_path / "ca.pem")}
        ).settings
        with pytest.raises(SettingsError, match=r"kafka\.ssl_cafile = .*ca\.pem"):
            wait_for_kafka(settings.kafka, pytest.fail)

    def test_a_store_of_another_authority(self, secured: Secured) -> None:
        """In a process of its own, without the trust that this one has gathered."""
        place = secured.as_user("pipeline")
        place = place.with_settings(store__ca_file=secured.broker.foreign_ca)
        command = (sys.executable, "-m", "pipelines", "run")
        with stopped(place.start("foreign", *command, more={"SSL_CERT_FILE": os.devnull})) as child:
            said = wait_for_end(child, 30, code=4)
        assert "the store refuses (UnknownIssuer)" in said.strip().splitlines()[-1]

    def _refused(self, environment: dict[str, str], says: str) -> None:
        settings = load_settings(environment=environment).settings
        began = time.monotonic()
        with pytest.raises(InfrastructureUnavailable, match=re.escape(says)) as refusal:
            wait_for_kafka(settings.kafka, lambda line: None)
        assert time.monotonic() - began < 15
        assert "canary" not in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_the_brokers_listener_really_speaks_tls(secured: Secured) -> None:
    host, port = secured.broker.address.split(":")
    pem = ssl.get_server_certificate((host, int(port)), timeout=5)
    assert pem.startswith("-----BEGIN CERTIFICATE")
    assert set(secured.broker.passwords) == set(PRINCIPALS)
